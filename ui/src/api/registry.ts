/** Models and their versions as the server gives them (`salus.registry.model`). */
import type { Signature } from "./data.ts";

export interface Model { name: string; description: string; tags: Record<string, string>; latest_version: string | null; aliases: Record<string, string>; versions: number; created_ms: number; updated_ms: number }
export interface Gate { name: string; passed: boolean; evidence: Record<string, unknown>; reason: string; at_ms: number }
export interface Approval { decision: string; reason: string; by: string; at_ms: number }
export interface ModelFile { path: string; digest: string; size_bytes: number }

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
  gates: Gate[];
  approval: Approval | null;
  aliases: string[];
  tags: Record<string, string>;
  created_ms: number;
  created_by: string;
}
