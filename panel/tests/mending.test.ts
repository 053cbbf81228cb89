import { afterEach, expect, test, vi } from "vitest";
import { canRun, mending, type Action } from "../src/mending.svelte";

const rotate: Action = { kind: "request", sentence: "rotate", method: "POST", path: "/api/v1/devices/pump-7/rotate" };

function answers(...bodies: [number, unknown][]) {
  const calls = vi.fn<typeof fetch>();
  for (const [status, body] of bodies) {
    calls.mockResolvedValueOnce(new Response(JSON.stringify(body), { status, headers: { ETag: '"3"' } }));
  }
  vi.stubGlobal("fetch", calls);
  return calls;
}

afterEach(() => {
  mending.close();
  vi.unstubAllGlobals();
});

test("only a whole request of the API can be carried out", () => {
  expect(canRun(rotate)).toBe(true);
  // Its body has to be made by a person.
  expect(canRun({ ...rotate, kind: "command" })).toBe(false);
  expect(canRun({ ...rotate, path: "https://other.example/api/v1/x" })).toBe(false);
  expect(canRun({ kind: "request", sentence: "no path" })).toBe(false);
});

test("a secret in the answer stays, though the page looks again, and is gone when it is closed", async () => {
  answers([200, { id: "pump-7", secret: "shown-once" }]);
  const after = vi.fn();
  mending.open(rotate, after);
  await mending.run();
  expect(mending.answer).toEqual({ id: "pump-7", secret: "shown-once" });
  expect([mending.isDone, after.mock.calls.length]).toEqual([true, 1]);
  mending.close();
  expect(mending.answer).toBeUndefined();
});

test("a refusal is told, and it can be tried again", async () => {
  answers([403, { detail: "it needs devices:write" }]);
  const after = vi.fn();
  mending.open(rotate, after);
  await mending.run();
  expect([mending.told, mending.isDone, after.mock.calls.length]).toEqual(["it needs devices:write", false, 0]);
});

test("a PATCH names what it changes", async () => {
  const calls = answers([200, {}], [200, {}]);
  mending.open({ ...rotate, method: "PATCH", path: "/api/v1/devices/pump-7", body: { status: "active" } }, () => undefined);
  await mending.run();
  expect(calls.mock.calls[1]?.[1]?.headers).toMatchObject({ "If-Match": '"3"' });
});
