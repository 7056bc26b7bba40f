/** What a state is called, which sign stands before it, and how grave it is. Pure. */
import type { IconName } from "./parts/Icon.svelte";

export type Tone = "healthy" | "watch" | "sick" | "broken" | "unknown" | "info";

export interface Sign {
  tone: Tone;
  icon: IconName;
  text: string;
}

const SIGNS: Record<string, Sign> = {
  healthy: { tone: "healthy", icon: "healthy", text: "Healthy" },
  watch: { tone: "watch", icon: "watch", text: "Watch" },
  sick: { tone: "sick", icon: "sick", text: "Sick" },
  broken_input: { tone: "broken", icon: "broken_input", text: "Broken input" },
  info: { tone: "info", icon: "tick", text: "Noted" },
  unknown: { tone: "unknown", icon: "unknown", text: "Cannot tell yet" },
};

const GROUPS: [Tone, IconName, string[]][] = [
  ["healthy", "healthy", ["succeeded", "finished", "passed", "approved", "promoted", "promote", "live", "ok", "resolved", "deployed", "better", "closed", "completed"]],
  ["info", "running", ["running", "in_progress", "canary", "started", "training", "comparing", "rolling_out", "starting", "active"]],
  ["unknown", "queued", ["queued", "pending", "waiting", "scheduled", "registered", "hold", "cannot_tell", "no_action", "kept", "skipped", "acknowledged", "candidate"]],
  ["sick", "sick", ["failed", "error", "open", "firing", "rolled_back", "roll_back", "worse", "refused", "critical", "concept_drift", "changed_relationship", "sick_service"]],
  ["watch", "watch", ["approving", "warning", "degraded", "held", "not_better", "shifted_inputs", "needs_approval", "awaiting_approval", "blocked"]],
  ["unknown", "stopped", ["rejected", "cancelled", "canceled", "killed", "stopped", "superseded", "declined"]],
];

for (const [tone, icon, names] of GROUPS) {
  for (const name of names) SIGNS[name] ??= { tone, icon, text: name.charAt(0).toUpperCase() + name.slice(1).replaceAll("_", " ") };
}

const ORDER = ["sick", "broken_input", "watch", "unknown", "healthy"];

/** The sign of `state`; a state nobody knows keeps its name. */
export function sign(state: string | null | undefined): Sign {
  const key = (state ?? "unknown").replace(/([a-z])([A-Z])/g, "$1_$2").replaceAll(/[\s-]/g, "_").toLowerCase();
  return SIGNS[key] ?? { tone: "unknown", icon: "unknown", text: key.charAt(0).toUpperCase() + key.slice(1).replaceAll("_", " ") };
}

/** How urgent: 0 is the gravest. */
export function rank(state: string): number {
  const at = ORDER.indexOf(state);
  return at < 0 ? ORDER.length : at;
}
