/** Datasets and feature views as the server gives them (`salus.data.model`, `salus.features.model`). */
export interface Column { name: string; dtype: string; nullable: boolean }
export interface Schema { columns: Column[] }
export interface Signature { inputs: Schema; outputs: Schema; task: string }

export type Expectation = { kind: string } & Record<string, unknown>;

export interface Dataset {
  name: string;
  description: string;
  schema: Schema | null;
  expectations: Expectation[];
  event_time: string | null;
  revision: number;
  latest_version: number;
  created_ms: number;
  updated_ms: number;
}

export interface VersionSummary { dataset: string; version: number; message: string; mode: string; rows: number; added_rows: number; digest: string; created_ms: number; created_by: string }
export interface DatasetDetail { dataset: Dataset; versions: VersionSummary[] }

export interface ColumnProfile {
  name: string;
  dtype: string;
  rows: number;
  missing: number;
  distinct: number;
  not_finite: number;
  min: number | null;
  max: number | null;
  mean: number | null;
  std: number | null;
  quantiles: number[];
  histogram: { edges: number[]; counts: number[] } | null;
  top: { value: string; count: number }[];
}

export interface DatasetVersion extends VersionSummary {
  schema: Schema;
  schema_change: { added: string[]; removed: string[]; changed: { name: string; before: Column; after: Column }[] };
  profile: { rows: number; columns: ColumnProfile[] };
  files: { digest: string; size_bytes: number; rows: number }[];
}

export interface Violation { rule: string; column: string | null; law: string; observed: string; count: number; examples: { row: number; value: unknown }[] }

const ratio = (value: unknown) => (typeof value === "number" && value > 0 ? `, up to ${(value * 100).toPrecision(2)} % of the rows may differ` : "");

/** An expectation as a sentence (the words of `salus.data.expectations.law_of`). */
export function law(one: Expectation): string {
  const range = (low: unknown, high: unknown) => (low !== null && high !== null && low !== undefined && high !== undefined ? `between ${String(low)} and ${String(high)}` : low !== null && low !== undefined ? `at least ${String(low)}` : `at most ${String(high)}`);
  switch (one.kind) {
    case "not_null": return one.max_missing_ratio ? `missing in at most ${(Number(one.max_missing_ratio) * 100).toPrecision(2)} % of the rows` : "never missing";
    case "in_range": return range(one.low, one.high) + ratio(one.max_outside_ratio);
    case "in_set": {
      const values = one.values as unknown[];
      return `one of ${values.slice(0, 12).map(String).join(", ")}${values.length > 12 ? ` and ${values.length - 12} more` : ""}${ratio(one.max_outside_ratio)}`;
    }
    case "matches": return `matches ${String(one.pattern)}${ratio(one.max_outside_ratio)}`;
    case "unique": return `${(one.columns as string[]).join(", ")} is unique in a batch`;
    case "row_count": return `a batch has ${range(one.low, one.high)} rows`;
    case "fresh": return `the newest is at most ${String(one.max_age_s)} s old`;
    case "compare": return `${String(one.left)} ${String(one.operator)} ${String(one.right)}${ratio(one.max_outside_ratio)}`;
    default: return JSON.stringify(one);
  }
}

export const subjectOf = (one: Expectation): string => (typeof one.column === "string" ? one.column : "the batch");
