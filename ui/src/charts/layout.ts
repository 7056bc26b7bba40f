/** Where the boxes and arrows of a graph go, from left to right (dagre: Gansner et al., 1993, layered drawing). */
import { Graph, layout as arrange } from "@dagrejs/dagre";

export interface Box {
  id: string;
  title: string;
  note?: string;
  state?: string | undefined;
  href?: string | null;
  here?: boolean;
}

export interface Arrow {
  from: string;
  to: string;
  label?: string;
}

export interface Placed {
  width: number;
  height: number;
  boxes: (Box & { x: number; y: number })[];
  arrows: (Arrow & { path: string })[];
}

export const BOX_WIDTH = 168;
export const BOX_HEIGHT = 46;

export function layout(boxes: readonly Box[], arrows: readonly Arrow[]): Placed {
  const graph = new Graph({ multigraph: true });
  graph.setGraph({ rankdir: "LR", nodesep: 14, ranksep: 38, marginx: 8, marginy: 8 });
  graph.setDefaultEdgeLabel(() => ({}));
  for (const box of boxes) graph.setNode(box.id, { width: BOX_WIDTH, height: BOX_HEIGHT });
  for (const [index, arrow] of arrows.entries()) {
    if (graph.hasNode(arrow.from) && graph.hasNode(arrow.to)) graph.setEdge(arrow.from, arrow.to, {}, String(index));
  }
  arrange(graph);
  const size = graph.graph() as { width?: number; height?: number };
  return {
    width: size.width ?? 0,
    height: size.height ?? 0,
    boxes: boxes.map((box) => {
      const node = graph.node(box.id) as { x: number; y: number };
      return { ...box, x: node.x - BOX_WIDTH / 2, y: node.y - BOX_HEIGHT / 2 };
    }),
    arrows: arrows.flatMap((arrow, index) => {
      const edge = graph.edge(arrow.from, arrow.to, String(index)) as { points: { x: number; y: number }[] } | undefined;
      return edge ? [{ ...arrow, path: curve(edge.points) }] : [];
    }),
  };
}

function curve(points: { x: number; y: number }[]): string {
  const [first, ...rest] = points;
  if (!first) return "";
  let path = `M${first.x.toFixed(1)} ${first.y.toFixed(1)}`;
  let from = first;
  for (const to of rest) {
    const middle = (from.x + to.x) / 2;
    path += `C${middle.toFixed(1)} ${from.y.toFixed(1)} ${middle.toFixed(1)} ${to.y.toFixed(1)} ${to.x.toFixed(1)} ${to.y.toFixed(1)}`;
    from = to;
  }
  return path;
}
