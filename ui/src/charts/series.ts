/** What a chart shows, and the columns it is drawn from. Pure. */
import type { IconName } from "../parts/Icon.svelte";

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
  /** Something to compare with: a fine line, no band. */
  fine?: boolean;
  /** Single points, not joined to a line. */
  points?: boolean;
  /** Holds its value until the next point, as a share of traffic does. */
  stepped?: boolean;
}

/** A stretch of time, or a moment (`from` is `to`), that stands in a lane below a chart. */
export interface Mark {
  from: number;
  to: number;
  /** The whole story, for the tooltip, the table and a screen reader. */
  label: string;
  tone: string;
  icon?: IconName;
  /** Stands in the bar where there is room. */
  text?: string;
  href?: string | null;
}

/** Marks of one kind, in a line of their own. */
export interface Lane {
  name: string;
  marks: Mark[];
}

/** Marks that would touch each other on the screen, as one; `left` and `width` in pixels. */
export interface Cluster {
  left: number;
  width: number;
  marks: Mark[];
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

/**
 * Where the marks of a lane go on a line that is `room` pixels long: `place` gives the pixel of a moment. A bar is at
 * least `least` wide; marks that begin within that of the one before stand together; what lies outside is left out.
 */
export function clusters(marks: readonly Mark[], place: (at: number) => number, room: number, least: number): Cluster[] {
  const found: Cluster[] = [];
  for (const mark of [...marks].sort((a, b) => a.from - b.from)) {
    const [start, end] = [place(mark.from), place(mark.to)];
    if (end < 0 || start > room) continue;
    const left = Math.min(Math.max(0, start), room - least);
    const right = Math.min(room, Math.max(end, left + least));
    const last = found.at(-1);
    if (last && left - last.left < least) {
      last.marks.push(mark);
      last.width = Math.max(last.width, right - last.left);
    } else found.push({ left, width: right - left, marks: [mark] });
  }
  return found;
}

/** At most `most` rows of a long column, evenly taken, the last always among them. */
export function thin(length: number, most: number): number[] {
  if (length <= most) return Array.from({ length }, (_, index) => index);
  return Array.from({ length: most }, (_, index) => Math.round((index * (length - 1)) / (most - 1)));
}
