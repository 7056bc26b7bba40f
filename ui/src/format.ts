/** Numbers, times and names as people read them. Pure. */

const MINUS = "\u2212";
const DASH = "\u2013";
export const NONE = "\u2014";

/** A number with about four significant digits: 1,204 · 0.4123 · 3.1e-7. */
export function number(value: number | null | undefined, digits = 4): string {
  if (value === null || value === undefined || !Number.isFinite(value)) return NONE;
  const size = Math.abs(value);
  if (size !== 0 && (size < 1e-4 || size >= 1e9)) return value.toExponential(2).replace("-", MINUS);
  if (Number.isInteger(value) || size >= 10_000) return Math.round(value).toLocaleString("en-US").replace("-", MINUS);
  const decimals = Math.max(0, Math.min(digits - 1 - Math.floor(Math.log10(size || 1)), digits));
  const shown = value.toFixed(Math.min(decimals, digits));
  return (Number(shown) === 0 ? shown.replace("-", "") : shown).replace("-", MINUS);
}

/** Whole numbers with separators: 336,776. */
export function count(value: number | null | undefined): string {
  return value === null || value === undefined ? NONE : Math.round(value).toLocaleString("en-US");
}

/** A ratio as per cent: 0.053 is 5.3 %. */
export function percent(value: number | null | undefined, digits = 1): string {
  if (value === null || value === undefined || !Number.isFinite(value)) return NONE;
  const scaled = value * 100;
  const shown = Number.isInteger(Math.round(scaled * 1e6) / 1e6) ? Math.round(scaled).toString() : scaled.toFixed(scaled !== 0 && Math.abs(scaled) < 0.1 ? 2 : digits);
  return `${shown.replace("-", MINUS)} %`;
}

export type Unit = "" | "ratio" | "ms" | "us" | "s" | "bytes" | (string & {});

/** `value` in its unit; an unknown unit is put behind the number. */
export function quantity(value: number | null | undefined, unit: Unit = "", digits = 3): string {
  if (value === null || value === undefined || !Number.isFinite(value)) return NONE;
  if (unit === "ratio") return percent(value);
  if (unit === "us") return duration(value / 1000);
  if (unit === "ms") return duration(value);
  if (unit === "s") return duration(value * 1000);
  if (unit === "bytes") return bytes(value);
  return unit ? `${number(value, digits)} ${unit}` : number(value, digits);
}

/** An interval: [0.405, 0.419]; a unit that is only a name stands at the value, not here. Empty when a side is missing. */
export function interval(low: number | null | undefined, high: number | null | undefined, unit: Unit = "", digits = 3): string {
  if (low === null || low === undefined || high === null || high === undefined) return "";
  const shown = ["ratio", "ms", "us", "s", "bytes"].includes(unit) ? unit : "";
  return `[${quantity(low, shown, digits)}, ${quantity(high, shown, digits)}]`;
}

/** A length of time given in milliseconds: 0.4 ms · 12 s · 3 min 5 s · 2 d 4 h. */
export function duration(ms: number | null | undefined): string {
  if (ms === null || ms === undefined || !Number.isFinite(ms)) return NONE;
  if (ms < 0) return `${MINUS}${duration(-ms)}`;
  if (ms < 1) return ms === 0 ? "0 ms" : `${number(ms, 2)} ms`;
  if (ms < 1000) return `${ms < 10 ? number(ms, 2) : Math.round(ms)} ms`;
  const s = ms / 1000;
  if (s < 60) return `${s < 10 ? Math.round(s * 10) / 10 : Math.round(s)} s`;
  const steps: [number, string, number, string][] = [[3600, "min", 60, "s"], [86_400, "h", 3600, "min"], [Infinity, "d", 86_400, "h"]];
  const [, big, size, small] = steps.find(([limit]) => s < limit) ?? steps[2]!;
  const whole = Math.floor(s / size);
  const rest = Math.floor((s - whole * size) / (size === 60 ? 1 : size === 3600 ? 60 : 3600));
  return rest ? `${whole} ${big} ${rest} ${small}` : `${whole} ${big}`;
}

export function bytes(value: number | null | undefined): string {
  if (value === null || value === undefined) return NONE;
  const units = ["B", "kB", "MB", "GB", "TB"];
  let size = value;
  let at = 0;
  while (size >= 1000 && at < units.length - 1) {
    size /= 1000;
    at += 1;
  }
  return `${at === 0 || size >= 100 ? Math.round(size) : size.toFixed(1)} ${units[at]}`;
}

const MONTHS = ["Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec"];
const two = (value: number): string => String(value).padStart(2, "0");

/** A day: 3 Mar 2013 (UTC). */
export function day(ms: number | null | undefined): string {
  if (ms === null || ms === undefined) return NONE;
  const at = new Date(ms);
  return `${at.getUTCDate()} ${MONTHS[at.getUTCMonth()]} ${at.getUTCFullYear()}`;
}

/** A moment: 3 Mar 2013 14:05 (UTC). */
export function moment(ms: number | null | undefined, seconds = false): string {
  if (ms === null || ms === undefined) return NONE;
  const at = new Date(ms);
  return `${day(ms)} ${two(at.getUTCHours())}:${two(at.getUTCMinutes())}${seconds ? `:${two(at.getUTCSeconds())}` : ""}`;
}

const MINUTE_MS = 60_000;
const DAY_MS = 86_400_000;

/** Labels of a time axis whose ticks are `step` milliseconds apart; the larger unit stands below where it changes. */
export function timeTicks(ticks: readonly number[], step: number): string[] {
  let before = "";
  return ticks.map((ms) => {
    const at = new Date(ms);
    const date = `${at.getUTCDate()} ${MONTHS[at.getUTCMonth()]}`;
    const year = String(at.getUTCFullYear());
    const clock = `${two(at.getUTCHours())}:${two(at.getUTCMinutes())}${step < MINUTE_MS ? `:${two(at.getUTCSeconds())}` : ""}`;
    const [small, large] = step < DAY_MS ? [clock, date] : step < 28 * DAY_MS ? [date, year] : step < 365 * DAY_MS ? [MONTHS[at.getUTCMonth()] ?? "", year] : [year, ""];
    const label = large && large !== before ? `${small}\n${large}` : small;
    before = large;
    return label;
  });
}

/** How long ago: just now · 3 min ago · 2 d 4 h ago. */
export function ago(ms: number | null | undefined, now = Date.now()): string {
  if (ms === null || ms === undefined) return NONE;
  const past = now - ms;
  if (past < 5_000) return past < -5_000 ? `in ${duration(-past)}` : "just now";
  if (past < 60_000) return `${Math.floor(past / 1000)} s ago`;
  if (past < 3_600_000) return `${Math.floor(past / 60_000)} min ago`;
  if (past < 86_400_000) return `${Math.floor(past / 3_600_000)} h ago`;
  if (past < 30 * 86_400_000) return `${Math.floor(past / 86_400_000)} d ago`;
  return day(ms);
}

/** A range of days: 3 Mar 2013 – 9 Mar 2013. */
export function span(from_ms: number | null | undefined, to_ms: number | null | undefined): string {
  return from_ms === null || from_ms === undefined ? NONE : `${day(from_ms)} ${DASH} ${day(to_ms)}`;
}

/** The start of a long identifier or digest. */
export function short(id: string | null | undefined, keep = 14): string {
  if (!id) return NONE;
  return id.length <= keep + 2 ? id : `${id.slice(0, keep)}\u2026`;
}

/** An identifier for people: what it names and its last characters, which tell it from its neighbours. */
export function brief(id: string): string {
  const found = /^([a-z]+)_[0-9a-z]{20}([0-9a-z]{6})$/.exec(id);
  return found ? `${found[1]}_\u2026${found[2]}` : id;
}

/** `DriftRaised` as "Drift raised", `rolled_back` as "Rolled back". */
export function words(name: string | null | undefined): string {
  if (!name) return NONE;
  const spaced = name.replace(/[_-]+/g, " ").replace(/([a-z0-9])([A-Z])/g, "$1 $2").toLowerCase();
  return spaced.charAt(0).toUpperCase() + spaced.slice(1);
}

/** Any JSON value on one line. */
export function plain(value: unknown): string {
  if (value === null || value === undefined) return NONE;
  if (typeof value === "number") return number(value);
  return typeof value === "string" ? value : JSON.stringify(value);
}

const stretch = (value: unknown): value is [number, number] => Array.isArray(value) && value.length === 2 && value.every((one) => typeof one === "number" && one > 1e11);

/** A parameter's value: milliseconds as moments, stretches of time as days, the rest as it is. */
export function parameter(name: string, value: unknown): string {
  if (typeof value === "number" && name.endsWith("_ms") && value > 1e11) return moment(value);
  if (Array.isArray(value)) return value.every(stretch) ? value.map(([from, to]) => span(from, to)).join(", ") || "none" : plain(value);
  return plain(value);
}
