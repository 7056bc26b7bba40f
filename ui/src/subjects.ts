/** Node and subject names (`model_version:flight-delay@1.0.0`) as words and as addresses of pages. Pure. */

export interface Subject {
  kind: string;
  name: string;
  version: string | null;
}

/** The parts of a node name. */
export function parse(node: string): Subject {
  const at = node.indexOf(":");
  const kind = at < 0 ? "" : node.slice(0, at);
  const rest = node.slice(at + 1);
  const split = rest.lastIndexOf("@");
  return split < 0 ? { kind, name: rest, version: null } : { kind, name: rest.slice(0, split), version: rest.slice(split + 1) };
}

/** The page of a node, or null where it has none. */
export function href(node: string): string | null {
  const { kind, name, version } = parse(node);
  const safe = encodeURIComponent(name);
  switch (kind) {
    case "run": return `/runs/${safe}`;
    case "experiment": return `/runs?experiment=${safe}`;
    case "pipeline": return `/pipelines/${safe}`;
    case "pipeline_run": return `/pipeline-runs/${safe}`;
    case "model": return `/models/${safe}`;
    case "model_version": return version ? `/models/${safe}/versions/${encodeURIComponent(version)}` : `/models/${safe}/versions`;
    case "dataset": return `/datasets/${safe}`;
    case "dataset_version": return version ? `/datasets/${safe}/versions/${encodeURIComponent(version)}` : `/datasets/${safe}`;
    case "feature_view": return `/features/${safe}`;
    case "endpoint": return `/endpoints/${safe}`;
    case "rollout": return `/rollouts/${safe}`;
    case "retraining": return `/retraining/${safe}`;
    case "alert": return `/alerts/${safe}`;
    default: return null;
  }
}

/** A node for people: "flight-delay 1.0.0". */
export function label(node: string): string {
  const { name, version } = parse(node);
  return version ? `${name} ${version}` : name;
}

const NODE_OF: Record<string, string> = { plr: "pipeline_run", rtr: "retraining", rol: "rollout", alr: "alert", run: "run" };

/** A text in pieces: the identifiers that it mentions as nodes, the rest as it is. */
export function mentions(text: string): { text: string; node: string | null }[] {
  return text.split(/\b((?:plr|rtr|rol|alr|run)_[0-9a-z]{26})\b/).map((piece, index) => ({ text: piece, node: index % 2 ? `${NODE_OF[piece.slice(0, 3)]}:${piece}` : null })).filter((piece) => piece.text !== "");
}
