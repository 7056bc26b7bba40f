/** One thing read from the server, kept fresh by the live feed. */
import { ApiProblem, type Problem } from "./client.ts";
import { feed, listen, type LiveEntry } from "./live.svelte.ts";

const PAUSE_MS = 1_500;

export interface Resource<T> {
  /** The last good answer. It stays while a newer one is on its way, so nothing jumps. */
  readonly data: T | undefined;
  readonly problem: Problem | undefined;
  readonly loading: boolean;
  reload(): void;
}

/**
 * Reads with `fetcher` (again whenever a state it looks at changes), and again when an entry that `fits` comes in or the
 * feed comes back: at most every 1.5 s. Must be called while a component is set up.
 */
export function resource<T>(fetcher: (signal: AbortSignal) => Promise<T>, fits?: (entry: LiveEntry) => boolean): Resource<T> {
  let data = $state.raw<T>();
  let problem = $state.raw<Problem>();
  let loading = $state(true);
  let turn = $state(0);
  let timer: ReturnType<typeof setTimeout> | undefined;
  let asked_ms = 0;

  const later = () => {
    timer ??= setTimeout(() => {
      timer = undefined;
      turn += 1;
    }, Math.max(50, asked_ms + PAUSE_MS - Date.now()));
  };

  $effect(() => {
    void turn;
    const stop = new AbortController();
    loading = true;
    asked_ms = Date.now();
    fetcher(stop.signal).then(
      (answer) => {
        if (stop.signal.aborted) return;
        [data, problem, loading] = [answer, undefined, false];
      },
      (error: unknown) => {
        if (stop.signal.aborted) return;
        problem = error instanceof ApiProblem ? error.problem : { type: "", title: "The page failed", status: 0, detail: String(error) };
        loading = false;
      },
    );
    return () => stop.abort();
  });

  $effect(() => {
    if (!fits) return;
    const stop = listen((entry) => fits(entry) && later());
    return () => {
      stop();
      clearTimeout(timer);
      timer = undefined;
    };
  });

  let was = feed.state;
  $effect(() => {
    const now = feed.state;
    if (now === "live" && (was === "away" || was === "paused")) later();
    was = now;
  });

  return {
    get data() { return data; },
    get problem() { return problem; },
    get loading() { return loading; },
    reload: () => (turn += 1),
  };
}
