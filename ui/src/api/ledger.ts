/** The ledger and the lineage as the server gives them (`salus.kernel.ledger`, `salus.kernel.lineage`). */
export interface Entry {
  seq: number;
  id: string;
  at_ms: number;
  kind: string;
  workspace: string;
  actor: string;
  subject: string;
  data: Record<string, unknown>;
  before: string | null;
  after: string | null;
  previous: string;
  hash: string;
}

export interface Verdict { entries: number; head: string; root: string }
export interface Edge { upstream: string; downstream: string; relation: string; at_ms: number }
export interface Lineage { node: string; nodes: string[]; edges: Edge[] }
