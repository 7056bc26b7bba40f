/** Runs as the server gives them (`salus.tracking.model`). */
export type RunState = "running" | "finished" | "failed" | "killed";

export interface Experiment { id: string; name: string; created_ms: number }

export interface RunContext {
  git_commit: string | null;
  git_dirty: boolean | null;
  command: string | null;
  host: string | null;
  python: string | null;
  packages: Record<string, string>;
  inputs: string[];
  pipeline_run: string | null;
}

export interface Run {
  id: string;
  experiment_id: string;
  name: string;
  state: RunState;
  created_by: string;
  parent_run_id: string | null;
  started_ms: number;
  ended_ms: number | null;
  context: RunContext;
}

export interface RunSummary {
  run: Run;
  parameters: Record<string, string>;
  metrics: Record<string, number | null>;
  tags: Record<string, string>;
}

export interface LatestMetric { key: string; value: number | null; step: number; at_ms: number; low: number | null; high: number | null; points: number }
export interface Artifact { path: string; digest: string; size_bytes: number; created_ms: number }

export interface RunDetails {
  run: Run;
  experiment: string;
  parameters: Record<string, string>;
  tags: Record<string, string>;
  metrics: LatestMetric[];
  artifacts: Artifact[];
}

export interface MetricHistory { key: string; total: number; points: [number, number, number | string][] }

/** Metrics that the client samples by itself. */
export const isSystem = (key: string): boolean => key.startsWith("system/");

/** The unit of a metric by its name: `_bytes`, `_ratio`, `_ms`, `_s`. */
export function unitOf(key: string): string {
  return /_(bytes|ratio|ms|s)$/.exec(key)?.[1] ?? "";
}
