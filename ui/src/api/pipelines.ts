/** Pipelines and their runs as the server gives them (`salus.pipelines.model`). */
export type Binding =
  | { type: "constant"; value: unknown }
  | { type: "parameter"; name: string }
  | { type: "step"; step: string; output: string }
  | { type: "list"; items: Binding[] };

export interface StepNode { name: string; function: string; arguments: Record<string, Binding>; outputs: string[]; cache: boolean; retries: number; timeout_s: number | null }
export interface Graph { steps: StepNode[] }
export interface Parameter { name: string; type: string; required: boolean; default: unknown }

export interface Pipeline {
  name: string;
  revision: number;
  description: string;
  entrypoint: string;
  project: string;
  graph: Graph;
  parameters: Parameter[];
  created_ms: number;
  updated_ms: number;
}

export interface PipelineRunSummary {
  id: string;
  pipeline: string;
  state: string;
  parameters: Record<string, unknown>;
  trigger: string;
  started_by: string;
  created_ms: number;
  finished_ms: number | null;
  error: string | null;
  steps: number;
  steps_done: number;
}

export interface StepRun {
  step: string;
  position: number;
  state: string;
  key: string | null;
  cached: boolean;
  outputs: Record<string, { digest: string; codec: string; size_bytes: number; type: string; executable: boolean }>;
  error: string | null;
  traceback: string | null;
  log_tail: string | null;
  attempts: number;
  progress_ratio: number | null;
  progress_text: string | null;
  cpu_s: number | null;
  peak_memory_bytes: number | null;
  started_ms: number | null;
  finished_ms: number | null;
}

export interface PipelineRun {
  id: string;
  pipeline: string;
  revision: number;
  graph: Graph;
  parameters: Record<string, unknown>;
  state: string;
  use_cache: boolean;
  trigger: string;
  started_by: string;
  created_ms: number;
  finished_ms: number | null;
  error: string | null;
}

export interface PipelineRunDetails { run: PipelineRun; steps: StepRun[] }

/** The steps whose outputs a step takes. */
export function upstream(node: StepNode): string[] {
  const names = (bindings: Binding[]): string[] => bindings.flatMap((one) => (one.type === "step" ? [one.step] : one.type === "list" ? names(one.items) : []));
  return [...new Set(names(Object.values(node.arguments)))];
}
