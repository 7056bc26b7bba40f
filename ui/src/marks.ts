/** What happened at an endpoint over event time, as lanes below its charts and as shades in them. Pure. */
import type { Annotation, Vitals, Window } from "./api/monitoring.ts";
import type { Lane, Mark } from "./charts/series.ts";
import { words } from "./format.ts";
import { href } from "./subjects.ts";

/** Who answered, which rollouts and retrainings there were, and which alarms: only lanes with something in them. */
export function lanesOf({ windows, annotations, alerts, watch }: Vitals): Lane[] {
  const end = windows.at(-1)?.end_ms ?? 0;
  const alarms = alerts
    .filter((one) => one.state !== "pending")
    .map((one): Mark => ({
      from: one.since_event_ms,
      to: one.resolved_event_ms ?? Math.max(end, one.since_event_ms),
      label: `${words(one.cause)}: ${one.title}${one.resolved_event_ms === null ? ", still open" : `, over: ${one.resolved_reason}`}`,
      tone: one.cause === "broken_input" ? "broken" : "sick",
      icon: one.cause === "broken_input" ? "broken_input" : "alarm",
      text: words(one.cause),
      href: `/alerts/${encodeURIComponent(one.id)}`,
    }));
  return [
    { name: "Version", marks: versions(windows, watch.model) },
    { name: "Rollouts", marks: spells(annotations, "RolloutStarted", ["RolloutPromoted", "RolledBack"], end, rolloutEnd) },
    { name: "Alarms", marks: alarms },
    { name: "Training", marks: [...spells(annotations, "RetrainingStarted", ["RetrainingEnded"], end, retrainingEnd), ...declined(annotations)] },
  ].filter((lane) => lane.marks.length > 0);
}

/** The stretches that explain the numbers: alarms, and the moments at which another version took over. */
export function shadesOf(lanes: readonly Lane[]): Mark[] {
  const marks = (name: string) => lanes.find((lane) => lane.name === name)?.marks ?? [];
  return [...marks("Alarms"), ...marks("Version").slice(1).map((one) => ({ ...one, to: one.from, tone: "accent" }))];
}

function versions(windows: readonly Window[], model: string): Mark[] {
  const found: Mark[] = [];
  let before = "";
  for (const one of windows) {
    const last = found.at(-1);
    if (last && one.version === before) last.to = one.end_ms;
    else {
      if (last) last.to = one.start_ms;
      found.push({ from: one.start_ms, to: one.end_ms, label: `${model} ${one.version} answered`, text: one.version, tone: found.length % 2 ? "series-1" : "info", href: href(`model_version:${model}@${one.version}`) });
    }
    before = one.version;
  }
  return found;
}

type Ending = (ended: Annotation | undefined) => Pick<Mark, "tone" | "icon">;

/** One mark for each subject from its first kind of annotation to its last; one that goes on reaches `end`. */
function spells(annotations: readonly Annotation[], first: string, last: readonly string[], end: number, shown: Ending): Mark[] {
  return annotations
    .filter((one) => one.kind === first)
    .map((began) => {
      const ended = annotations.find((one) => one.subject === began.subject && last.includes(one.kind));
      return { from: began.event_ms, to: ended?.event_ms ?? Math.max(end, began.event_ms), label: ended ? `${began.text}; ${ended.text}` : began.text, href: href(began.subject), ...shown(ended) };
    });
}

function rolloutEnd(ended: Annotation | undefined): Pick<Mark, "tone" | "icon"> {
  if (!ended) return { tone: "info", icon: "running" };
  return ended.kind === "RolloutPromoted" ? { tone: "healthy", icon: "deployment" } : { tone: "sick", icon: "stopped" };
}

function retrainingEnd(ended: Annotation | undefined): Pick<Mark, "tone" | "icon"> {
  if (!ended) return { tone: "info", icon: "running" };
  if (/ended as promoted/.test(ended.text)) return { tone: "healthy", icon: "healthy" };
  return /ended as (failed|rolled_back)/.test(ended.text) ? { tone: "sick", icon: "sick" } : { tone: "unknown", icon: "stopped" };
}

function declined(annotations: readonly Annotation[]): Mark[] {
  return annotations.filter((one) => one.kind === "RetrainingDeclined").map((one) => ({ from: one.event_ms, to: one.event_ms, label: one.text, tone: "unknown", icon: "unknown", href: href(one.subject) }));
}
