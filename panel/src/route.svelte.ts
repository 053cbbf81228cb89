// Pages by address: the part behind `#` holds the page, the object and the filters.

export type Route = { page: string; name: string; query: URLSearchParams };

export function parsed(hash: string): Route {
  const [path = "", query = ""] = hash.replace(/^#\/?/, "").split("?", 2);
  const [page = "", ...rest] = path.split("/");
  return { page: page || "overview", name: decoded(rest.join("/")), query: new URLSearchParams(query) };
}

/** A name from an address; one that is no valid encoding stays as it is. */
function decoded(text: string): string {
  try {
    return decodeURIComponent(text);
  } catch {
    return text;
  }
}

export function address(page: string, name = "", query: Record<string, string> = {}): string {
  const filled = Object.entries(query).filter(([, value]) => value !== "");
  const search = new URLSearchParams(filled).toString();
  return `#/${page}${name === "" ? "" : `/${encodeURIComponent(name)}`}${search === "" ? "" : `?${search}`}`;
}

class Router {
  route = $state.raw<Route>(parsed(location.hash));

  constructor() {
    addEventListener("hashchange", () => (this.route = parsed(location.hash)));
  }

  go(page: string, name = "", query: Record<string, string> = {}): void {
    location.hash = address(page, name, query);
  }
}

export const router = new Router();
