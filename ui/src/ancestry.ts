/** The part of a lineage that can be read: what a thing came from, what came of it, likes of a kind together. Pure. */
import type { Edge, Lineage } from "./api/ledger.ts";
import { parse } from "./subjects.ts";

/** One box of the picture: a thing, or several of one kind with the same neighbours. */
export interface Kin {
  id: string;
  nodes: string[];
}

export interface Family {
  kin: Kin[];
  edges: Edge[];
}

const TOGETHER = 4;
const STEPS_DOWN = 3;

/**
 * Everything upstream of `lineage.node`, and downstream `STEPS_DOWN` links. A rivalry (`challenged`) is shown only
 * where it is the thing's own, and an endpoint is an end: what else it served is another story. From `TOGETHER` things
 * on, those of one kind that hang on the same neighbours become one box.
 */
export function family({ node, edges }: Lineage): Family {
  const kept = new Set<Edge>([...reach(node, edges, "up", Infinity), ...reach(node, edges, "down", STEPS_DOWN)]);
  return fold(node, [...kept]);
}

function reach(node: string, edges: readonly Edge[], way: "up" | "down", steps: number): Edge[] {
  const [near, far] = way === "up" ? (["downstream", "upstream"] as const) : (["upstream", "downstream"] as const);
  const found: Edge[] = [];
  const seen = new Set([node]);
  let frontier = [node];
  for (let step = 0; step < steps && frontier.length; step += 1) {
    const next: string[] = [];
    for (const edge of edges) {
      if (!frontier.includes(edge[near]) || (rivalry(edge) && edge[near] !== node)) continue;
      found.push(edge);
      if (seen.has(edge[far]) || rivalry(edge) || parse(edge[far]).kind === "endpoint") continue;
      seen.add(edge[far]);
      next.push(edge[far]);
    }
    frontier = next;
  }
  return found;
}

const rivalry = (edge: Edge): boolean => edge.relation === "challenged" && parse(edge.downstream).kind === "model_version";

function fold(node: string, edges: readonly Edge[]): Family {
  const names = [...new Set([node, ...edges.flatMap((edge) => [edge.upstream, edge.downstream])])];
  const hangs = (name: string) => edges.flatMap((edge) => (edge.upstream === name ? [`>${edge.relation}>${edge.downstream}`] : edge.downstream === name ? [`<${edge.relation}<${edge.upstream}`] : [])).sort().join(" ");
  const likes = new Map<string, string[]>();
  for (const name of names) {
    const key = name === node ? node : `${parse(name).kind} ${hangs(name)}`;
    likes.set(key, [...(likes.get(key) ?? []), name]);
  }
  const kin = [...likes.values()].flatMap((nodes): Kin[] => (nodes.length >= TOGETHER ? [{ id: nodes.join(" "), nodes }] : nodes.map((one) => ({ id: one, nodes: [one] }))));
  const home = new Map(kin.flatMap((one) => one.nodes.map((name) => [name, one.id])));
  const drawn = new Map<string, Edge>();
  for (const edge of edges) {
    const [upstream, downstream] = [home.get(edge.upstream) ?? edge.upstream, home.get(edge.downstream) ?? edge.downstream];
    drawn.set(`${upstream}|${edge.relation}|${downstream}`, { ...edge, upstream, downstream });
  }
  return { kin, edges: [...drawn.values()] };
}
