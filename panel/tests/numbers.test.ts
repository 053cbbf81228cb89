import { expect, test } from "vitest";
import { ago, bytes, pretty, rate, shown, span, UNKNOWN } from "../src/numbers";

test.each([
  [undefined, UNKNOWN],
  [0, "0/s"],
  [1240.4, "1,240/s"],
  [0.42, "0.4/s"],
  [1 / 180, "1 in 3 min"],
])("a rate of %s is %s", (perSecond, expected) => {
  expect(rate(perSecond)).toBe(expected);
});

test("what is not known is not 0", () => {
  expect([bytes(null), ago(null, 0), ago("no time", 0), rate(Number.NaN)]).toEqual(Array(4).fill(UNKNOWN));
});

test("bytes and spans have a unit that fits", () => {
  expect([999, 1_000, 999_499, 1_250_000, 15_195_161_394].map(bytes)).toEqual(["999 B", "1.0 kB", "999 kB", "1.3 MB", "15.2 GB"]);
  expect([4, 89, 180, 7_200, 432_000].map(span)).toEqual(["4 s", "89 s", "3 min", "2 h", "5 d"]);
  expect(ago("2026-01-01T00:00:00Z", Date.parse("2026-01-01T00:03:00Z"))).toBe("3 min ago");
});

test("nothing is hidden in a name, and it does not fill the page", () => {
  expect(shown("a\u202Egpj\u0000b")).toBe("a\\u202egpj\\u0000b");
  expect(shown("x".repeat(1_000_000))).toHaveLength(201);
  expect(shown("<img src=x onerror=alert(1)>")).toBe("<img src=x onerror=alert(1)>");
});

test("a payload of JSON has lines, another one is shown as it is", () => {
  expect(pretty('{"a":[1]}', "utf-8")).toBe('{\n  "a": [\n    1\n  ]\n}');
  expect(pretty("a\tb\u202e", "utf-8")).toBe("a\tb\\u202e");
  expect(pretty("eyJhIjoxfQ==", "base64")).toBe("eyJhIjoxfQ==");
  expect(pretty("[".repeat(200_000), "utf-8")).toHaveLength(100_001);
});
