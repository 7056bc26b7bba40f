/** Which page an address names. Pure; `navigation.svelte.ts` moves between them. */

export type Params = Record<string, string>;

export interface Match<T> {
  page: T;
  params: Params;
}

export interface Route<T> {
  pattern: string;
  page: T;
}

/** The first route whose pattern (`/models/:name`) fits `path`, with the decoded parameters. */
export function match<T>(routes: readonly Route<T>[], path: string): Match<T> | null {
  const parts = segments(path);
  for (const { pattern, page } of routes) {
    const params = fit(segments(pattern), parts);
    if (params) return { page, params };
  }
  return null;
}

function segments(path: string): string[] {
  return path.split("/").filter((part) => part !== "");
}

function fit(pattern: string[], parts: string[]): Params | null {
  if (pattern.length !== parts.length) return null;
  const params: Params = {};
  for (const [index, wanted] of pattern.entries()) {
    const got = parts[index] ?? "";
    if (!wanted.startsWith(":")) {
      if (wanted !== got) return null;
      continue;
    }
    try {
      params[wanted.slice(1)] = decodeURIComponent(got);
    } catch {
      return null;
    }
  }
  return params;
}
