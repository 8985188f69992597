import { afterEach, beforeEach, expect, test, vi } from "vitest";

import { Throttle } from "../src/lib/throttle.ts";

beforeEach(() => vi.useFakeTimers());
afterEach(() => vi.useRealTimers());

test("what comes close together is done once, and once more for what came meanwhile", async () => {
  let finish = (): void => undefined;
  const work = vi.fn(() => new Promise<void>((resolve) => (finish = resolve)));
  const throttle = new Throttle(work, 100);
  throttle.request();
  throttle.request();
  await vi.advanceTimersByTimeAsync(0);
  expect(work).toHaveBeenCalledTimes(1);
  throttle.request();
  await vi.advanceTimersByTimeAsync(500);
  expect(work).toHaveBeenCalledTimes(1); // one at a time
  finish();
  await vi.advanceTimersByTimeAsync(0);
  expect(work).toHaveBeenCalledTimes(2);
});

test("two runs do not begin within the pause", async () => {
  const work = vi.fn(() => Promise.resolve());
  const throttle = new Throttle(work, 100);
  throttle.request();
  await vi.advanceTimersByTimeAsync(0);
  throttle.request();
  await vi.advanceTimersByTimeAsync(99);
  expect(work).toHaveBeenCalledTimes(1);
  await vi.advanceTimersByTimeAsync(1);
  expect(work).toHaveBeenCalledTimes(2);
});

test("a stopped one does nothing more", async () => {
  const work = vi.fn(() => Promise.resolve());
  const throttle = new Throttle(work, 100);
  throttle.request();
  throttle.stop();
  await vi.advanceTimersByTimeAsync(1000);
  expect(work).not.toHaveBeenCalled();
});
