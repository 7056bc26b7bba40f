/**
 * The live feed: every ledger entry as it is written (`GET /api/v1/live`, server-sent events).
 *
 * Read with fetch, not EventSource: each kind of entry is its own event name, which EventSource only delivers for names
 * known beforehand, and it cannot carry a token. A lost connection is taken up again behind the last entry seen.
 */
import { identity } from "./client.ts";

/** A ledger entry; or a passing notice ("run X has new points"), which has no place in the ledger: `seq` is null. */
export interface LiveEntry {
  seq: number | null;
  kind: string;
  subject: string;
  at_ms: number;
  actor: string;
  data: Record<string, unknown>;
}

type Listener = (entry: LiveEntry) => void;

export const feed = $state<{ state: "connecting" | "live" | "away" | "paused"; last_seq: number }>({ state: "connecting", last_seq: 0 });

const listeners = new Set<Listener>();
const FIRST_WAIT_MS = 500;
const LONGEST_WAIT_MS = 15_000;

/** Calls `listener` with each entry from now on; gives the function that ends it. */
export function listen(listener: Listener): () => void {
  listeners.add(listener);
  return () => listeners.delete(listener);
}

/** Connects, and stays connected while the page can be seen. */
export async function connect(): Promise<never> {
  let wait_ms = FIRST_WAIT_MS;
  for (;;) {
    await visible();
    const stop = new AbortController();
    const hide = () => document.hidden && stop.abort();
    document.addEventListener("visibilitychange", hide);
    try {
      await read(stop.signal, () => {
        feed.state = "live";
        wait_ms = FIRST_WAIT_MS;
      });
    } catch {
      // A connection that ends is no error here: the wait below and the next turn are the answer.
    }
    document.removeEventListener("visibilitychange", hide);
    feed.state = document.hidden ? "paused" : "away";
    if (!document.hidden) await new Promise((resolve) => setTimeout(resolve, wait_ms * (0.7 + 0.6 * Math.random())));
    wait_ms = Math.min(wait_ms * 2, LONGEST_WAIT_MS);
  }
}

function visible(): Promise<void> {
  if (!document.hidden) return Promise.resolve();
  return new Promise((resolve) => {
    const look = () => {
      if (document.hidden) return;
      document.removeEventListener("visibilitychange", look);
      resolve();
    };
    document.addEventListener("visibilitychange", look);
  });
}

async function read(signal: AbortSignal, opened: () => void): Promise<void> {
  const headers: Record<string, string> = { Accept: "text/event-stream", ...identity() };
  if (feed.last_seq) headers["Last-Event-ID"] = String(feed.last_seq);
  const response = await fetch("/api/v1/live", { headers, signal, cache: "no-store" });
  if (!response.ok || !response.body) throw new Error(`live feed answered ${response.status}`);
  opened();
  const reader = response.body.pipeThrough(new TextDecoderStream()).getReader();
  let rest = "";
  for (;;) {
    const { value, done } = await reader.read();
    if (done) return;
    const blocks = (rest + value.replaceAll("\r", "")).split("\n\n");
    rest = blocks.pop() ?? "";
    for (const block of blocks) deliver(block);
  }
}

function deliver(block: string): void {
  const lines = block.split("\n");
  const field = (name: string) => lines.filter((line) => line.startsWith(`${name}:`)).map((line) => line.slice(name.length + 1).trimStart()).join("\n");
  const text = field("data");
  if (!text) return;
  const body = JSON.parse(text) as Partial<LiveEntry> & Record<string, unknown>;
  if (typeof body.seq !== "number") {
    for (const listener of listeners) listener({ seq: null, kind: field("event"), subject: "", at_ms: Date.now(), actor: "", data: body });
    return;
  }
  if (body.seq <= feed.last_seq) return;
  feed.last_seq = body.seq;
  for (const listener of listeners) listener(body as LiveEntry);
}
