/** Models and their versions as the server gives them (`salus.registry.model`). */
import type { ColumnProfile, Signature } from "./data.ts";

export interface Model { name: string; description: string; tags: Record<string, string>; approval: "gates" | "person"; required_gates: string[]; latest_version: string | null; aliases: Record<string, string>; versions: number; created_ms: number; updated_ms: number }
/** `passed` null: cannot tell (yet). */
export interface Gate { name: string; passed: boolean | null; evidence: Record<string, unknown>; reason: string; at_ms: number; by: string }
export interface Approval { decision: string; reason: string; by: string; by_policy: boolean; at_ms: number }
export interface ModelFile { path: string; digest: string; size_bytes: number; executable: boolean }
export interface Profile { rows: number; columns: ColumnProfile[] }

export interface ModelVersion {
  model: string;
  version: string;
  flavour: string;
  state: string;
  digest: string;
  files: ModelFile[];
  signature: Signature;
  metrics: Record<string, number>;
  params: Record<string, unknown>;
  datasets: string[];
  features: string[];
  run_id: string | null;
  pipeline_run: string | null;
  reference: string | null;
  input_profile: Profile | null;
  output_profile: Profile | null;
  gates: Gate[];
  approval: Approval | null;
  aliases: string[];
  tags: Record<string, string>;
  created_ms: number;
  created_by: string;
}
