import { expect, test } from "vitest";

import { draw, HEIGHT, WIDTH } from "../src/lib/trend.ts";
import { amount, signal } from "../src/lib/vitals.ts";
import type { VitalPoint } from "../src/protocol.ts";

function point(hour: number, mean: number, version: string | null = null): VitalPoint {
  return { at: new Date(hour * 3_600_000).toISOString(), version, low: mean - 1, mean, high: mean + 1 };
}

test.each([
  ["heap_free_bytes", 142_336, "139 KiB"],
  ["psram_free_bytes", 4_194_304, "4 MiB"],
  ["uptime_s", 93_600, "1 d 2 h"],
  ["uptime_s", 59, "59 s"],
  ["uptime_s", 3_600, "1 h"],
  ["battery_mv", 3_912, "3.91 V"],
  ["rssi_dbm", -61, "-61 dBm"],
  ["temperature_celsius", 21.456, "21.46 °C"],
  ["things", 12, "12"],
])("%s of %d is shown as %s", (name, value, text) => {
  expect(amount(name, value)).toBe(text);
});

test("a signal has a word", () => {
  expect([-60, -61, -71, -81].map(signal)).toEqual(["strong", "good", "weak", "very weak"]);
});

test("points without a gap are one line, from edge to edge", () => {
  const { lowest, highest, runs } = draw([point(0, 10), point(1, 20), point(2, 30)]);
  expect([lowest, highest, runs.length]).toEqual([9, 31, 1]);
  expect(runs[0]?.map(({ x }) => x)).toEqual([0, WIDTH / 2, WIDTH]);
  expect([runs[0]?.[0]?.low, runs[0]?.[2]?.high]).toEqual([HEIGHT, 0]);
});

test("a pause is a gap", () => {
  const { runs } = draw([point(0, 1), point(1, 1), point(9, 1), point(10, 1)]);
  expect(runs.map((run) => run.length)).toEqual([2, 2]);
});

test("one point, and numbers that are all the same, are in the middle", () => {
  const flat = { ...point(0, 5), low: 5, high: 5 };
  const { runs } = draw([flat]);
  expect(runs).toEqual([[{ x: WIDTH / 2, low: HEIGHT / 2, mean: HEIGHT / 2, high: HEIGHT / 2 }]]);
});

test("other firmware is marked where it begins", () => {
  const { changes } = draw([point(0, 1, "1.0.0"), point(1, 1, "1.0.0"), point(2, 1, "1.1.0"), point(3, 1)]);
  expect(changes.map(({ x, version }) => [Math.round(x), version])).toEqual([[267, "1.1.0"]]);
});
