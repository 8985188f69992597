import { expect, test } from "vitest";

import { drifts, rotationWord, versions } from "../src/lib/census.ts";
import { search } from "../src/lib/search.ts";
import { eventName, replyTopic, requestTopic } from "../src/mqtt/topics.ts";
import { DEVICE_SHOW, type DeviceView } from "../src/protocol.ts";

function device(facts: Partial<DeviceView>): DeviceView {
  return {
    client_id: "iotdevice-m-1",
    key: "1",
    model: "m",
    name: "",
    tags: [],
    enabled: true,
    online: true,
    presence: "online",
    wake_interval_s: null,
    asleep_until: null,
    health: "healthy",
    health_reasons: [],
    last_seen_at: "2026-01-02T00:00:00Z",
    firmware_version: "1.0.0",
    config_version: 1,
    config_version_reported: 1,
    config_outcome: "applied",
    config_error: null,
    secret_generation: 1,
    secret_created_at: "2026-01-01T00:00:00Z",
    has_key: true,
    rotation_state: "OK",
    ...facts,
  };
}

const FLEET = [
  device({ client_id: "a", name: "Kitchen light", tags: ["Up"] }),
  device({ client_id: "b", online: false, presence: "asleep", firmware_version: null }),
  device({ client_id: "c", config_version: 2, health: "critical", rotation_state: "TIMEOUT" }),
];

test.each([
  ["", ["a", "b", "c"]],
  ["kitchen LIGHT", ["a"]],
  ["online:no", ["b"]],
  ["presence:asleep", ["b"]],
  ["presence:offline", []],
  ["drift:yes health:critical", ["c"]],
  ["rotation:timeout", ["c"]],
  ["tag:up", ["a"]],
  ["firmware:1.0", ["a", "c"]],
  ["firmware:unknown", ["b"]],
  ["constructor:x", []],
])("a search for %j finds %j", (text, found) => {
  expect(search(FLEET, text).map(({ client_id: id }) => id)).toEqual(found);
});

test("a configuration drifts until it is reported applied", () => {
  expect(drifts(device({}))).toBe(false);
  expect(drifts(device({ config_version: 2 }))).toBe(true);
  expect(drifts(device({ config_outcome: "rejected" }))).toBe(true);
  expect(drifts(device({ config_version_reported: null, config_outcome: null }))).toBe(true);
});

test("the most frequent versions stand first, and rare ones are counted together", () => {
  const many = Array.from({ length: 20 }, (_, index) =>
    device({ firmware_version: `1.0.${Math.min(index, 12)}` }),
  );
  const found = versions(many, (version) => version);
  expect(found[0]).toMatchObject({ name: "1.0.12", count: 8 });
  expect(found.at(-1)).toMatchObject({ name: "others", count: 5 });
  expect(found.reduce((sum, { count }) => sum + count, 0)).toBe(20);
});

test("versions of several models are not mixed", () => {
  const two = [device({ firmware_version: "1.0" }), device({ model: "fan", firmware_version: "1.0" })];
  expect(versions(two, (search) => search)).toMatchObject([
    { name: "m 1.0", count: 1, href: "model:m firmware:1.0" },
    { name: "fan 1.0", count: 1, href: "model:fan firmware:1.0" },
  ]);
});

test("topics are made as the protocol has them", () => {
  expect(requestTopic(DEVICE_SHOW, "admin")).toBe("mdm/v1/admin/admin/registry/device/show");
  expect(replyTopic("admin", "x")).toBe("mdm/v1/replies/admin/x");
  expect(eventName("mdm/v1/events/device/online")).toEqual({ noun: "device", verb: "online" });
  expect(eventName("mdm/v1/events/device")).toBeUndefined();
  expect(eventName("mdm/v1/replies/admin/x")).toBeUndefined();
});

test("rotations are called the same in all views", () => {
  expect(["OK", "QUEUED", "PENDING", "TIMEOUT", "DONE", "WITHDRAWN"].map(rotationWord)).toEqual([
    "ok",
    "queued",
    "in progress",
    "timed out",
    "done",
    "withdrawn",
  ]);
});
