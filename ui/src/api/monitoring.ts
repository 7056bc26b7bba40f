/** Vital signs, alerts and diagnoses as the server gives them (`salus.monitoring.model`). */
export interface Estimate { value: number; low: number; high: number; n: number; level: number }

export type Condition = "healthy" | "watch" | "broken_input" | "sick" | "unknown";
export type Cause = "broken_input" | "shifted_inputs" | "changed_relationship" | "sick_service";

export interface Finding { kind: string; column: string; text: string; value: number; limit: number; unit: string; since_ms: number; conversion: string | null }
export interface Movement { column: string; effect: number; distance: number; unit: string; missing_change: number; excess: number | null }
export interface Service { latency_p50_ms: number | null; latency_p99_ms: number | null; error_ratio: Estimate | null; refused_ratio: number | null }
export interface Harm { evidence: Record<string, number>; residual: Estimate | null; expected_loss: number | null }

export interface Window {
  endpoint: string;
  revision: string;
  version: string;
  role: string;
  start_ms: number;
  end_ms: number;
  state: "closed" | "mature";
  rows: number;
  labelled: number;
  findings: Finding[];
  movements: Movement[];
  output_movement: Movement | null;
  service: Service | null;
  metrics: Record<string, Estimate>;
  harm: Harm | null;
  label_delay_s: number | null;
  broken: string[];
}

export interface LossSplit { metric: string; reference: number; realised: Estimate; change: number; effective_ratio: number; moved: Estimate | null; relation: Estimate | null }
export interface ColumnShare { column: string; share: number; distance: number; unit: string }
export interface Segment { rule: string; columns: string[]; rows_ratio: number; excess: Estimate }
export interface RecentEvent { event_ms: number; kind: string; text: string; subject: string }

export interface Diagnosis {
  endpoint: string;
  model: string;
  version: string;
  condition: Condition;
  text: string;
  cause: string | null;
  confidence: "high" | "medium" | "low";
  advice: string[];
  window_start_ms: number | null;
  window_end_ms: number | null;
  split: LossSplit | null;
  columns: ColumnShare[];
  segments: Segment[];
  events: RecentEvent[];
  alerts: string[];
}

export interface Alert {
  id: string;
  endpoint: string;
  model: string;
  version: string;
  cause: Cause;
  state: "pending" | "firing" | "resolved";
  severity: "warning" | "critical";
  columns: string[];
  title: string;
  since_event_ms: number;
  window_start_ms: number;
  window_end_ms: number;
  diagnosis: Diagnosis | null;
  created_ms: number;
  updated_ms: number;
  resolved_event_ms: number | null;
  resolved_reason: string;
  acknowledged_by: string | null;
  acknowledged_ms: number | null;
}

export interface Annotation { event_ms: number; kind: string; text: string; subject: string }

export interface Patient {
  endpoint: string;
  model: string;
  version: string;
  condition: Condition;
  text: string;
  latest: Window | null;
  latest_mature: Window | null;
  trend: Record<string, (number | null)[]>;
  alerts: Alert[];
  last_decision: Annotation | null;
  reference_metrics: Record<string, number>;
}

export interface Watch {
  endpoint: string;
  model: string;
  version: string;
  revision: string;
  task: string;
  window_ms: number | null;
  label_delay_ms: number | null;
  condition: Condition;
  reference: { kind: string; rows: number; labelled: number; from_ms: number | null; to_ms: number | null; note: string };
}

export interface Vitals { watch: Watch; windows: Window[]; shadows: Record<string, Window[]>; alerts: Alert[]; annotations: Annotation[] }
