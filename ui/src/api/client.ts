/** Speaks HTTP with the control plane. An error is always an `ApiProblem` (problem+json, RFC 9457). */

export interface Problem {
  type: string;
  title: string;
  status: number;
  detail: string;
  path?: string;
  remedy?: string;
  retry_after_s?: number;
  details?: unknown;
}

export interface Page<T> {
  items: T[];
  next_cursor: string | null;
}

/** A list that may come whole or in pages. */
export type Listing<T> = T[] | Page<T>;

export function itemsOf<T>(answer: Listing<T> | undefined): T[] {
  return answer === undefined ? [] : Array.isArray(answer) ? answer : answer.items;
}

export class ApiProblem extends Error {
  constructor(readonly problem: Problem) {
    super(problem.detail);
  }
}

const TOKEN = "salus-token";
const WORKSPACE = "salus-workspace";

export function setToken(token: string): void {
  sessionStorage.setItem(TOKEN, token);
}

/** The headers every request carries: who asks, in which workspace. */
export function identity(): Record<string, string> {
  const token = sessionStorage.getItem(TOKEN);
  const workspace = localStorage.getItem(WORKSPACE);
  return {
    ...(token ? { Authorization: `Bearer ${token}` } : {}),
    ...(workspace ? { "X-Salus-Workspace": workspace } : {}),
  };
}

/** `GET /api/v1<path>`. */
export function get<T>(path: string, signal?: AbortSignal): Promise<T> {
  return send<T>("GET", path, undefined, signal);
}

/** `POST /api/v1<path>`; each call is one logical request, so it gets one idempotency key. */
export function post<T>(path: string, body: unknown = {}): Promise<T> {
  return send<T>("POST", path, body);
}

async function send<T>(method: string, path: string, body?: unknown, signal?: AbortSignal): Promise<T> {
  const headers: Record<string, string> = { Accept: "application/json", ...identity() };
  const init: RequestInit = { method, headers, signal: signal ?? null };
  if (body !== undefined) {
    headers["Content-Type"] = "application/json";
    headers["Idempotency-Key"] = Array.from(crypto.getRandomValues(new Uint8Array(16)), (byte) => byte.toString(16).padStart(2, "0")).join("");
    init.body = JSON.stringify(body);
  }
  let response: Response;
  try {
    response = await fetch(`/api/v1${path}`, init);
  } catch (error) {
    if (signal?.aborted) throw error;
    throw new ApiProblem({
      type: "urn:salus:unavailable",
      title: "The server does not answer",
      status: 0,
      detail: "The control plane could not be reached. Serving goes on without it.",
      remedy: "Start it again with `salus up`; this page reconnects by itself.",
    });
  }
  if (!response.ok) throw new ApiProblem(await problemOf(response, path));
  return (response.status === 204 ? undefined : await response.json()) as T;
}

async function problemOf(response: Response, path: string): Promise<Problem> {
  if ((response.headers.get("Content-Type") ?? "").includes("json")) {
    const body = (await response.json()) as Partial<Problem>;
    if (typeof body.detail === "string") {
      return { type: body.type ?? "", title: body.title ?? response.statusText, status: response.status, ...body, detail: body.detail };
    }
  }
  return { type: "", title: response.statusText || "Error", status: response.status, detail: `${path} answered ${response.status}.` };
}

/** An address with parameters; empty ones are left out. */
export function url(path: string, params: Record<string, string | number | boolean | null | undefined>): string {
  const kept = Object.entries(params).filter(([, value]) => value !== "" && value !== null && value !== undefined);
  return kept.length ? `${path}?${new URLSearchParams(kept.map(([name, value]) => [name, String(value)]))}` : path;
}

/** One part of a path, escaped. */
export const part = encodeURIComponent;
