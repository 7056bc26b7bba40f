/** Endpoints and rollouts as the server gives them (`salus.serving.model`). */
import type { Signature } from "./data.ts";

export interface Lookup { view: string; keys: string[]; features: string[]; ttl_s: number | null }
export interface Weight { revision: string; share: number }

export interface Endpoint {
  name: string;
  task: string | null;
  key_column: string | null;
  lookups: Lookup[];
  label_delay_s: number;
  description: string;
  live: string | null;
  previous: string | null;
  shadows: string[];
  created_ms: number;
  updated_ms: number;
}

export interface Revision { id: string; endpoint: string; model: string; version: string; format: string; signature: Signature; created_ms: number; created_by: string }

export type RolloutState = "running" | "held" | "promoted" | "rolled_back";

export interface Strategy {
  kind: string;
  steps: number[];
  mirror: boolean;
  metric: string | null;
  margin: number | null;
  min_rows: number;
  max_false_rollback_ratio: number;
  max_false_promotion_ratio: number;
  error_margin_ratio: number;
  latency_quantile: number;
  max_duration_s: number;
}

export interface Criterion { name: "loss" | "errors" | "latency"; unit: string; state: "fine" | "worse" | "cannot tell"; margin: number; n: number; value: number | null; low: number | null; high: number | null }
export interface Verdict { decision: "promote" | "hold" | "roll_back"; reason: string; criteria: Criterion[]; needed_n: number | null }

export interface Rollout {
  id: string;
  endpoint: string;
  champion: string | null;
  challenger: string;
  model: string;
  version: string;
  strategy: Strategy;
  state: RolloutState;
  step: number;
  share: number;
  reason: string;
  verdict: Verdict | null;
  started_ms: number;
  started_by: string;
  ended_ms: number | null;
  ended_by: string | null;
}

export interface Look { at_ms: number; event_ms: number | null; n: number; share: number; decision: string; criteria: Criterion[] }
export interface RolloutDetail { rollout: Rollout; champion: Revision | null; challenger: Revision; looks: Look[] }
export interface EndpointDetail { endpoint: Endpoint; split: Weight[]; shadows: string[]; revisions: Revision[]; rollout: Rollout | null; serving: boolean }

export interface PredictionRow {
  prediction_id: string;
  event_ms: number;
  at_ms: number;
  key: string;
  role: string;
  revision: string;
  version: string;
  latency_us: number;
  error: string | null;
  inputs: Record<string, unknown>;
  output: Record<string, unknown>;
}
