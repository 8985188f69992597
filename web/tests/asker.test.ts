import { afterEach, beforeEach, expect, test, vi } from "vitest";

import { Asker, NoAnswerError, RESEND_MS, RefusedError, TIMEOUT_MS, type Outgoing } from "../src/mqtt/asker.ts";
import { DEVICE_SHOW, MODEL_LIST } from "../src/protocol.ts";

let sent: Outgoing[] = [];
let asker = new Asker((outgoing) => sent.push(outgoing));

beforeEach(() => {
  vi.useFakeTimers();
  sent = [];
  asker = new Asker((outgoing) => sent.push(outgoing));
});
afterEach(() => vi.useRealTimers());

function answer(outgoing: Outgoing | undefined, body: unknown): void {
  asker.answered(outgoing?.correlation ?? "", JSON.stringify(body));
}

test("a request is sent again as it is until its answer is there", async () => {
  const asked = asker.ask(DEVICE_SHOW, { device: "abc" });
  vi.advanceTimersByTime(2 * RESEND_MS);
  expect(sent).toHaveLength(3);
  expect(new Set(sent.map(({ payload }) => payload)).size).toBe(1);
  expect(JSON.parse(sent[0]?.payload ?? "")).toMatchObject({ device: "abc" });
  answer(sent[0], { ok: true, result: { client_id: "abc" } });
  expect(await asked).toEqual({ client_id: "abc" });
  vi.advanceTimersByTime(TIMEOUT_MS);
  expect(sent).toHaveLength(3);
});

test("each request has an id of its own", () => {
  void asker.ask(MODEL_LIST, {});
  void asker.ask(MODEL_LIST, {});
  const ids = sent.map(({ payload }) => (JSON.parse(payload) as { request_id: string }).request_id);
  expect(new Set(ids).size).toBe(2);
});

test("an answer that comes twice, or that nobody waits for, is dropped", async () => {
  const asked = asker.ask(MODEL_LIST, {});
  answer(sent[0], { ok: true, result: { models: [] } });
  answer(sent[0], { ok: false, error: { code: "x", message: "y", details: {} } });
  asker.answered("unknown", "{}");
  expect(await asked).toEqual({ models: [] });
});

test("a refusal says why", async () => {
  const asked = asker.ask(MODEL_LIST, {});
  answer(sent[0], { ok: false, error: { code: "conflict", message: "code: is taken", details: {} } });
  await expect(asked).rejects.toThrow(
    new RefusedError({ code: "conflict", message: "code: is taken", details: {} }),
  );
});

test.each(["no json", '{"ok":true}', "null"])(
  "an answer that makes no sense (%s) ends the request",
  async (text) => {
    const asked = asker.ask(MODEL_LIST, {});
    asker.answered(sent[0]?.correlation ?? "", text);
    await expect(asked).rejects.toThrow(RefusedError);
  },
);

test("no answer names the service", async () => {
  const asked = asker.ask(MODEL_LIST, {});
  const failing = expect(asked).rejects.toThrow(NoAnswerError);
  vi.advanceTimersByTime(TIMEOUT_MS);
  await failing;
  await expect(asked).rejects.toThrow(/registry service/);
});

test("after a reconnection what is in progress is sent at once", () => {
  void asker.ask(MODEL_LIST, {});
  asker.sendAllAgain();
  expect(sent).toHaveLength(2);
});
