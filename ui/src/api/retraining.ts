/** Retraining policies and retrainings as the server gives them (`salus.retraining.model`). */
import type { Estimate } from "./monitoring.ts";
import type { Strategy } from "./serving.ts";

export interface GateSettings { level: number; margin: number; min_rows: number; min_days: number; segment_margin: number }

export interface Policy {
  model: string;
  endpoint: string;
  body: {
    pipeline: string;
    causes: string[];
    checkup_s: number | null;
    cooldown_s: number;
    holdout_s: number;
    window_s: number | null;
    min_labelled: number;
    gate: GateSettings;
    rollout: Strategy;
    automatic: boolean;
    paused: boolean;
    parameters: Record<string, unknown>;
  };
  revision: number;
  updated_ms: number;
  updated_by: string;
}

export interface Trigger { kind: "alert" | "checkup" | "manual"; event_ms: number; since_ms: number | null; alert: string | null; cause: string | null; reason: string }
export interface Decision { at_ms: number; state: string; reason: string; evidence: Record<string, unknown> }
export interface SegmentCheck { rule: string; gain: Estimate; worse: boolean }

/** Candidate against champion on the same labelled rows; a gain is positive where the candidate is better. */
export interface Comparison {
  champion: string;
  candidate: string;
  metric: string;
  rows: number;
  days: number;
  from_ms: number;
  to_ms: number;
  verdict: string;
  champion_loss: number | null;
  candidate_loss: number | null;
  gain: Estimate | null;
  p_value: number | null;
  auc_gain: Estimate | null;
  needed_n: number | null;
  segments: SegmentCheck[];
  text: string;
}

export interface Retraining {
  id: string;
  model: string;
  endpoint: string;
  trigger: Trigger;
  state: string;
  champion: string;
  since_ms: number | null;
  until_ms: number;
  now_ms: number;
  excluded: [number, number][];
  pipeline: string;
  pipeline_run: string | null;
  candidate: string | null;
  comparison: Comparison | null;
  rollout: string | null;
  reason: string;
  decisions: Decision[];
  created_ms: number;
  updated_ms: number;
}
