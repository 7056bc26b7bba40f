/** Vital signs, alerts and diagnoses as the server gives them (`salus.monitoring.model`). */
export type Health = "healthy" | "watch" | "sick" | "broken_input" | "unknown";

export interface Vital {
  name: string;
  title: string;
  unit: string;
  state: Health;
  value: number | null;
  low: number | null;
  high: number | null;
  n: number;
  needed_n: number | null;
  reference: number | null;
  trend: (number | null)[];
  note: string;
}

export interface AlertBrief { id: string; cause: string; title: string; state: string; event_ms: number; at_ms: number }
export interface Decision { at_ms: number; event_ms: number | null; kind: string; text: string; subject: string }

export interface Patient {
  endpoint: string;
  model: string | null;
  version: string | null;
  state: Health;
  summary: string;
  vitals: Vital[];
  alerts: AlertBrief[];
  decision: Decision | null;
  watermark_ms: number | null;
}

export interface Ward { patients: Patient[] }

export interface VitalPoint { from_ms: number; to_ms: number; version: string | null; n: number; value: number | null; low: number | null; high: number | null }
export interface VitalSeries { name: string; title: string; unit: string; reference: number | null; points: VitalPoint[]; baseline: VitalPoint[] }
export interface Annotation { event_ms: number; kind: "alarm" | "deployment" | "retraining" | "rollback"; text: string; subject: string }
export interface Vitals { endpoint: string; series: VitalSeries[]; annotations: Annotation[] }

export interface Contribution { feature: string; segment: string | null; share: number | null; effect: number | null; unit: string; text: string }
export interface Diagnosis { endpoint: string; state: Health; cause: string | null; text: string; advice: string[]; evidence: Contribution[]; at_ms: number }
export interface Alert extends AlertBrief { endpoint: string; model: string | null; version: string | null; diagnosis: Diagnosis | null; acknowledged_by: string | null; acknowledged_ms: number | null; resolved_ms: number | null }
