/** What a chart shows, and the columns it is drawn from. Pure. */

export interface Series {
  label: string;
  x: readonly number[];
  y: readonly (number | null)[];
  low?: readonly (number | null)[];
  high?: readonly (number | null)[];
  n?: readonly (number | null)[];
  /** The token of its colour, `series-1` to `series-6` or a state. */
  tone?: string;
  dashed?: boolean;
  /** Holds its value until the next point, as a share of traffic does. */
  stepped?: boolean;
}

export interface ChartEvent {
  at: number;
  kind: "alarm" | "resolved" | "deployment" | "retraining" | "rollback";
  label: string;
  href?: string | null;
}

export interface Level {
  y: number;
  label: string;
}

export type Column = (number | null)[];

/** The union of all x in order, then for each series y, low and high on it; null where a series has no point. */
export function columns(series: readonly Series[]): [number[], ...Column[]] {
  const xs = [...new Set(series.flatMap((one) => [...one.x]))].sort((a, b) => a - b);
  const place = new Map(xs.map((x, index) => [x, index]));
  const spread = (one: Series, values: readonly (number | null)[] | undefined): Column => {
    const column: Column = new Array<number | null>(xs.length).fill(null);
    for (const [index, x] of one.x.entries()) {
      const value = values?.[index];
      column[place.get(x) ?? 0] = value !== undefined && value !== null && Number.isFinite(value) ? value : null;
    }
    return column;
  };
  return [xs, ...series.flatMap((one) => [spread(one, one.y), spread(one, one.low), spread(one, one.high)])];
}

/** Events that would touch each other on the screen, together: `place` gives the pixel, `gap` the least distance. */
export function clusters<T extends { at: number }>(events: readonly T[], place: (at: number) => number, gap: number): { left: number; events: T[] }[] {
  const found: { left: number; events: T[] }[] = [];
  for (const event of [...events].sort((a, b) => a.at - b.at)) {
    const left = place(event.at);
    const last = found.at(-1);
    if (last && left - last.left < gap) last.events.push(event);
    else found.push({ left, events: [event] });
  }
  return found;
}

/** At most `most` rows of a long column, evenly taken, the last always among them. */
export function thin(length: number, most: number): number[] {
  if (length <= most) return Array.from({ length }, (_, index) => index);
  return Array.from({ length: most }, (_, index) => Math.round((index * (length - 1)) / (most - 1)));
}
