// The API of the node: one place for requests, the session and problems.

import type { components } from "./schema";

export type Schemas = components["schemas"];
export type Remedy = Schemas["FaultRemedy"];

/** A problem that the node answered with, or that it was not reached. */
export class Problem extends Error {
  constructor(
    readonly status: number,
    readonly detail: string,
    readonly requestId?: string,
  ) {
    super(detail);
  }
}

/** The API, relative to the page: the panel may be below a path. */
const BASE = "api/v1";

let csrf = "";

/** The token that changes carry (it comes with the session). */
export function setToken(token: string): void {
  csrf = token;
}

export async function call<T>(
  method: string,
  path: string,
  body?: unknown,
  signal?: AbortSignal,
  more: Record<string, string> = {},
): Promise<T> {
  const headers: Record<string, string> = { Accept: "application/json", ...more };
  if (body !== undefined) headers["Content-Type"] = "application/json";
  if (method !== "GET") headers["X-CSRF-Token"] = csrf;
  let answer: Response;
  try {
    answer = await fetch(`${BASE}${path}`, {
      method,
      headers,
      ...(body === undefined ? {} : { body: JSON.stringify(body) }),
      ...(signal ? { signal } : {}),
    });
  } catch (error) {
    if (signal?.aborted) throw error;
    throw new Problem(0, "The node cannot be reached.");
  }
  const text = await answer.text();
  const parsed = json(text);
  if (!answer.ok) {
    const problem = (parsed ?? {}) as { detail?: string; title?: string; request_id?: string };
    throw new Problem(answer.status, problem.detail ?? problem.title ?? answer.statusText, problem.request_id);
  }
  return parsed as T;
}

export const get = <T>(path: string, signal?: AbortSignal): Promise<T> => call<T>("GET", path, undefined, signal);

/** What the node has now, as a change of it (PATCH) names it. */
export async function etag(path: string): Promise<string> {
  const answer = await fetch(`${BASE}${path}`, { headers: { Accept: "application/json" } });
  return answer.headers.get("ETag") ?? "";
}

/** The JSON of an answer. A proxy before the node may answer with something else. */
function json(text: string): unknown {
  try {
    return text === "" ? undefined : JSON.parse(text);
  } catch {
    return undefined;
  }
}
