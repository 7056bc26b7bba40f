/** Feature views as the server gives them (`salus.features.model`). */
import type { Column } from "./data.ts";

export interface FeatureView {
  name: string;
  description: string;
  entity: string;
  keys: (string | Column)[];
  event_time: string;
  features: Column[];
  ttl_s: number | null;
}
