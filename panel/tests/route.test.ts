import { beforeAll, expect, test, vi } from "vitest";

let address: typeof import("../src/route.svelte").address;
let parsed: typeof import("../src/route.svelte").parsed;

beforeAll(async () => {
  vi.stubGlobal("location", { hash: "" });
  vi.stubGlobal("addEventListener", () => undefined);
  ({ address, parsed } = await import("../src/route.svelte"));
});

test.each(["pump-7", "a/b", "100%", "ü ?#&", "<img onerror>"])("the address of %s names it", (name) => {
  const route = parsed(address("client", name, { search: "a&b", none: "" }));
  expect([route.page, route.name, route.query.get("search"), route.query.has("none")]).toEqual(["client", name, "a&b", false]);
});

test("without an address there is the overview", () => {
  expect(parsed("").page).toBe("overview");
  expect(parsed("#/").page).toBe("overview");
});
