/** Vital signs from windows: what the ward shows at a glance and what the chart draws over time. Pure. */
import type { Alert, Condition, Estimate, Movement, Patient, Vitals, Window } from "./api/monitoring.ts";
import type { Level, Series } from "./charts/series.ts";
import { count, number, percent, quantity, words, type Unit } from "./format.ts";

export interface Sign {
  name: string;
  title: string;
  state: Condition;
  /** The number as text, or what stands in its place. */
  value: string;
  note: string;
  n: number | null;
  trend: (number | null)[];
}

export interface Chart {
  name: string;
  title: string;
  unit: Unit;
  caption: string;
  series: Series[];
  levels: Level[];
  whole?: boolean;
  range?: [number, number];
  /** Shown at once; the others on demand. */
  main?: boolean;
}

const TITLES: Record<string, string> = { log_loss: "Log loss", auc: "AUC", brier: "Brier score", squared_error: "Squared error", rmse: "Root of squared error", bias: "Bias", mae: "Mean absolute error" };
const ORDER = Object.keys(TITLES);
const WARD_METRICS = 2;
const COLUMNS_DRAWN = 5;
const MAIN_METRICS = new Set(["log_loss", "auc", "squared_error", "mae"]);

export const titleOf = (metric: string): string => TITLES[metric] ?? words(metric);
const inOrder = (names: string[]): string[] => names.sort((a, b) => (ORDER.indexOf(a) + 1 || 99) - (ORDER.indexOf(b) + 1 || 99) || a.localeCompare(b));

/** The movement furthest from the reference, by the share of what chance explains, then by size. */
export function furthest(movements: readonly Movement[]): Movement | null {
  return movements.reduce<Movement | null>((best, one) => (best === null || key(one) > key(best) ? one : best), null);
}
const key = (one: Movement): number => (one.excess ?? 0) * 1000 + one.effect;
const SHORT_UNITS: Record<string, string> = { "standard deviations": "sd" };
const far = (one: Movement): string => `${number(one.distance, 2)} ${SHORT_UNITS[one.unit] ?? one.unit}`;
const moved = (one: Movement): Condition => (one.excess !== null && one.excess >= 1 ? "watch" : "healthy");

/** The vital signs of one patient, always the same ones in the same order, so that the eye can compare down the ward. */
export function signsOf(patient: Patient): Sign[] {
  const { latest, latest_mature: mature, trend } = patient;
  return [
    ...performance(patient, mature),
    quality(latest, trend.broken ?? []),
    movement("drift", "Input drift", latest ? furthest(latest.movements) : null, latest?.rows ?? null, trend.drift ?? []),
    movement("output", "Output drift", latest?.output_movement ?? null, latest?.rows ?? null, trend.output_drift ?? []),
    latency(latest, trend.latency_p99_ms ?? []),
    errors(latest, trend.error_ratio ?? []),
    labels(mature, trend.completeness ?? []),
  ];
}

function performance(patient: Patient, mature: Window | null): Sign[] {
  const names = inOrder([...new Set([...Object.keys(mature?.metrics ?? {}), ...Object.keys(patient.reference_metrics)])]).slice(0, WARD_METRICS);
  const state = performanceState(patient.alerts, mature);
  return names.map((name) => {
    const now = mature?.metrics[name];
    const reference = patient.reference_metrics[name];
    return {
      name,
      title: titleOf(name),
      state: now ? state : "unknown",
      value: now ? number(now.value, 3) : "cannot tell yet",
      note: now ? span(now) : reference === undefined ? "no label yet" : `was ${number(reference, 3)}`,
      n: now?.n ?? null,
      trend: patient.trend[name] ?? [],
    };
  });
}

const span = (one: Estimate, unit: Unit = ""): string => `[${unit === "ratio" ? percent(one.low) : number(one.low, 3)}, ${unit === "ratio" ? percent(one.high) : number(one.high, 3)}]`;

function performanceState(alerts: readonly Alert[], mature: Window | null): Condition {
  const firing = alerts.filter((one) => one.state === "firing" && (one.cause === "changed_relationship" || one.cause === "shifted_inputs"));
  if (firing.length) return "sick";
  if (!mature) return "unknown";
  return Math.max(0, ...Object.values(mature.harm?.evidence ?? {})) >= 0.5 ? "watch" : "healthy";
}

function quality(latest: Window | null, trend: (number | null)[]): Sign {
  const findings = latest?.findings.filter((one) => one.column !== "" || one.kind === "refused") ?? [];
  const first = findings[0];
  return {
    name: "quality",
    title: "Input quality",
    state: !latest ? "unknown" : first ? "broken_input" : "healthy",
    value: !latest ? "cannot tell yet" : first ? first.column || "refused" : "sound",
    note: first ? `${words(first.kind).toLowerCase()}${findings.length > 1 ? `, ${findings.length - 1} more` : ""}` : latest ? "nothing broken" : "no window closed",
    n: latest?.rows ?? null,
    trend,
  };
}

function movement(name: string, title: string, one: Movement | null, rows: number | null, trend: (number | null)[]): Sign {
  if (!one) return { name, title, state: "unknown", value: "cannot tell yet", note: "no window closed", n: rows, trend };
  return { name, title, state: moved(one), value: far(one), note: name === "drift" ? one.column : moved(one) === "watch" ? "more than chance" : "within chance", n: rows, trend };
}

function latency(latest: Window | null, trend: (number | null)[]): Sign {
  const p99 = latest?.service?.latency_p99_ms ?? null;
  const slow = latest?.findings.some((one) => one.kind === "latency") ?? false;
  return { name: "latency", title: "Latency p99", state: p99 === null ? "unknown" : slow ? "sick" : "healthy", value: p99 === null ? "cannot tell yet" : quantity(p99, "ms"), note: p99 === null ? "no window closed" : `p50 ${quantity(latest?.service?.latency_p50_ms, "ms")}`, n: latest?.rows ?? null, trend };
}

function errors(latest: Window | null, trend: (number | null)[]): Sign {
  const ratio = latest?.service?.error_ratio ?? null;
  const failing = latest?.findings.some((one) => one.kind === "errors") ?? false;
  return { name: "errors", title: "Errors", state: ratio === null ? "unknown" : failing ? "sick" : "healthy", value: ratio === null ? "cannot tell yet" : percent(ratio.value), note: ratio ? span(ratio, "ratio") : "no window closed", n: ratio?.n ?? null, trend };
}

function labels(mature: Window | null, trend: (number | null)[]): Sign {
  const share = mature?.rows ? mature.labelled / mature.rows : null;
  return { name: "labels", title: "Labels", state: share === null ? "unknown" : "healthy", value: share === null ? "none yet" : percent(share), note: share === null ? "" : mature?.label_delay_s ? `after ${quantity(mature.label_delay_s, "s")}` : "have arrived", n: mature?.labelled ?? null, trend };
}

const middle = (one: Window): number => (one.start_ms + one.end_ms) / 2;

/** The charts of an endpoint: performance first, then what may explain it, then the service. */
export function chartsOf(vitals: Vitals): Chart[] {
  const { windows } = vitals;
  if (!windows.length) return [];
  const metrics = inOrder([...new Set(windows.flatMap((one) => Object.keys(one.metrics)))]);
  return [
    ...metrics.map((name) => metricChart(name, vitals)),
    ...gainChart(vitals),
    harmChart(windows),
    qualityChart(windows),
    driftChart(windows),
    latencyChart(windows),
    errorChart(windows),
    volumeChart(windows),
  ].filter((one) => one.series.some((line) => line.y.some((value) => value !== null))).map((one) => ({ main: true, ...one }));
}

function estimates(label: string, windows: readonly Window[], pick: (one: Window) => Estimate | null | undefined, extra: Partial<Series> = {}): Series {
  const kept = windows.flatMap((one) => {
    const estimate = pick(one);
    return estimate ? [{ x: middle(one), estimate }] : [];
  });
  return { label, x: kept.map((one) => one.x), y: kept.map((one) => one.estimate.value), low: kept.map((one) => one.estimate.low), high: kept.map((one) => one.estimate.high), n: kept.map((one) => one.estimate.n), ...extra };
}

function plainLine(label: string, windows: readonly Window[], pick: (one: Window) => number | null | undefined, extra: Partial<Series> = {}): Series {
  return { label, x: windows.map(middle), y: windows.map((one) => pick(one) ?? null), ...extra };
}

const SHADOW_SHARE = 0.1;

function metricChart(name: string, vitals: Vitals): Chart {
  const { windows } = vitals;
  const pick = (one: Window) => one.metrics[name];
  const live = estimates("answering", windows, pick);
  const [steady, brief] = shadowsOf(vitals);
  const lasting = steady.map((list, index) => estimates(`${list[0]?.version ?? "?"} in the shadow`, list, pick, { fine: true, tone: `series-${index + 2}` }));
  const passing = estimates("challengers in rollouts", brief, pick, { points: true, tone: "series-4" });
  const rows = (live.n ?? []).reduce<number>((sum, n) => sum + (n ?? 0), 0);
  const versions = [...new Set(windows.map((one) => one.version))];
  const told = lasting.map((one) => beside(one, live)).join("");
  return { name, title: titleOf(name), unit: "", main: MAIN_METRICS.has(name), series: [live, ...[...lasting, passing].filter((one) => one.x.length > 0)], levels: [], caption: `${count(live.x.length)} ${live.x.length === 1 ? "window" : "windows"} with labels, n=${count(rows)}; the band is each window's interval. Answered by ${versions.slice(0, 6).join(", ")}${versions.length > 6 ? " and others" : ""}.${told}` };
}

/** Those that answer unseen for long, each for itself; and the windows of those that did so only in a rollout. */
function shadowsOf({ windows, shadows }: Vitals): [Window[][], Window[]] {
  const enough = SHADOW_SHARE * windows.length;
  const lists = Object.values(shadows).sort((a, b) => b.length - a.length);
  const steady = lists.filter((list) => list.length >= enough).slice(0, 3);
  return [steady, lists.filter((list) => !steady.includes(list)).flat().sort((a, b) => a.start_ms - b.start_ms)];
}

const LOSSES = ["log_loss", "squared_error"];

/** How much lower the loss is than that of whoever answers unseen for long, on the same rows. */
function gainChart(vitals: Vitals): Chart[] {
  const [steady] = shadowsOf(vitals);
  const name = LOSSES.find((one) => vitals.windows.some((window) => window.metrics[one]));
  const list = steady[0];
  if (!name || !list) return [];
  const theirs = new Map(list.map((one) => [one.start_ms, one.metrics[name]?.value]));
  const version = list[0]?.version ?? "?";
  const line = plainLine(`gain over ${version}`, vitals.windows, (one) => {
    const [our, their] = [one.metrics[name]?.value, theirs.get(one.start_ms)];
    return our === undefined || their === undefined ? null : their - our;
  });
  return [{ name: "gain", title: `Gain over ${version}`, unit: "", series: [line], levels: [{ y: 0, label: "" }], caption: `${titleOf(name)} of ${version}, which answers unseen, less that of the one that answers, window by window: above 0 the one that answers is better.` }];
}

/** The mean over the windows in which both have a value, weighted by their rows. */
function beside(shadow: Series, live: Series): string {
  const at = new Map(live.x.map((x, index) => [x, index]));
  let [rows, theirs, ours] = [0, 0, 0];
  for (const [index, x] of shadow.x.entries()) {
    const other = at.get(x);
    const [n, their, our] = [shadow.n?.[index] ?? 0, shadow.y[index], other === undefined ? null : live.y[other]];
    if (typeof their !== "number" || typeof our !== "number") continue;
    [rows, theirs, ours] = [rows + n, theirs + n * their, ours + n * our];
  }
  return rows ? ` On the same ${count(rows)} rows: ${number(ours / rows, 3)} answering, ${number(theirs / rows, 3)} ${shadow.label}.` : "";
}

const QUESTIONS: Record<string, string> = { relation: "loss above what the scores promise", under: "more cases than the scores say", over: "fewer cases than the scores say", level: "loss above the reference" };
const EVIDENCE_DRAWN = 3;

function harmChart(windows: readonly Window[]): Chart {
  const names = [...new Set(windows.flatMap((one) => Object.keys(one.harm?.evidence ?? {})))].sort();
  return { name: "harm", title: "Evidence of harm", unit: "", range: [0, EVIDENCE_DRAWN], series: names.map((name) => plainLine(QUESTIONS[name] ?? words(name), windows, (one) => one.harm?.evidence[name])), levels: [{ y: 1, label: "alarm" }], caption: `What each detector has gathered, as a share of what an alarm takes. Beyond ${EVIDENCE_DRAWN} it is certain, and the picture ends.` };
}

function qualityChart(windows: readonly Window[]): Chart {
  const names = [...new Set(windows.flatMap((one) => one.findings.map((finding) => finding.column).filter(Boolean)))];
  const worst = windows.filter((one) => one.findings.length > 0).length;
  return { name: "quality", title: "Broken columns", unit: "", whole: true, series: [plainLine("broken columns", windows, (one) => new Set(one.findings.map((finding) => finding.column).filter(Boolean)).size, { stepped: true, tone: "broken" })], levels: [], caption: names.length ? `${count(worst)} windows with broken input: ${names.slice(0, 5).join(", ")}${names.length > 5 ? " and others" : ""}. They feed no detector and no training.` : "No column was broken in any window." };
}

function driftChart(windows: readonly Window[]): Chart {
  const most = new Map<string, number>();
  for (const one of windows) for (const movement of one.movements) most.set(movement.column, Math.max(most.get(movement.column) ?? 0, movement.effect));
  const names = [...most.entries()].sort((a, b) => b[1] - a[1]).slice(0, COLUMNS_DRAWN).map(([name]) => name);
  const series = names.map((name) => plainLine(name, windows, (one) => one.movements.find((movement) => movement.column === name)?.effect));
  return { name: "drift", title: "Input drift", unit: "", series: [...series, plainLine("output", windows, (one) => one.output_movement?.effect, { dashed: true, tone: "series-6" })], levels: [], caption: `Jensen-Shannon divergence from the reference in bits, bias subtracted: the output and the ${names.length} columns that moved furthest of ${most.size}. Evidence, never an alarm by itself.` };
}

function latencyChart(windows: readonly Window[]): Chart {
  return { name: "latency", title: "Latency", unit: "ms", series: [plainLine("p99", windows, (one) => one.service?.latency_p99_ms), plainLine("p50", windows, (one) => one.service?.latency_p50_ms, { tone: "series-3" })], levels: [], caption: "Time to answer one row in the data plane." };
}

function errorChart(windows: readonly Window[]): Chart {
  return { name: "errors", title: "Errors", unit: "ratio", series: [estimates("failed", windows, (one) => one.service?.error_ratio)], levels: [], caption: "Share of rows that the model could not answer." };
}

function volumeChart(windows: readonly Window[]): Chart {
  return { name: "volume", title: "Rows and labels", unit: "", whole: true, series: [plainLine("rows", windows, (one) => one.rows), plainLine("labelled", windows, (one) => (one.state === "mature" || one.labelled ? one.labelled : null), { tone: "series-3" })], levels: [], caption: "Predictions in each window, and how many have their label by now." };
}
