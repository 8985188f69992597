import { expect, test } from "vitest";

import { changeOf, fieldIn, textsOf } from "../src/lib/connectionForm.ts";
import { conclusions, layerValues, placeOf, progressOf } from "../src/lib/connections.ts";
import type { ConnectionLayerView, ConnectionStatus, DeviceConnectionView, ProfileUse } from "../src/protocol.ts";

const LAYER: ConnectionLayerView = {
  number: 4,
  scope: "tag",
  tag: "house",
  client_id: null,
  priority: 0,
  document: { mqtt_host: "a.test", mqtt_tls: true, wifi: [{ ssid: "home", id: "1" }] },
  trial_seconds: 60,
  removed: false,
  in_force: true,
  author: "admin",
  created_at: "2026-01-01T00:00:00Z",
};
const STATUS: ConnectionStatus = {
  profiles: [],
  more: 0,
  authorities: [],
  as_provisioned: 0,
  without_package: 0,
  on_fallback: 0,
};

test("a form that is not touched changes nothing", () => {
  expect(changeOf(LAYER, textsOf(LAYER), "kept")).toBeUndefined();
  expect(changeOf(undefined, textsOf(undefined), "below")).toBeUndefined();
});

test("only what differs is sent: a cleared field is left to the layers below, also TLS and Wi-Fi", () => {
  const texts = { ...textsOf(LAYER), mqtt_host: " b.test ", mqtt_port: "8883", mqtt_tls: "", trial_seconds: "" };
  expect(changeOf(LAYER, texts, "below")).toEqual({
    mqtt_host: "b.test",
    mqtt_port: 8883,
    unset: ["mqtt_tls", "trial_seconds", "wifi"],
  });
  const wifi = [{ ssid: "home-new", password: "a password" }];
  expect(changeOf(undefined, { ...textsOf(undefined), mqtt_tls: "false" }, wifi)).toEqual({
    mqtt_tls: false,
    wifi,
  });
});

test("a refusal is shown at the field that it names", () => {
  expect(fieldIn("mqtt_port: Input should be less than or equal to 65535")).toBe("mqtt_port");
  expect(fieldIn("wifi[0].password: must have 8 to 63 characters")).toBe("wifi");
  expect(fieldIn("there is no device x")).toBeUndefined();
});

test("a layer is shown with the number of authorities and the names of networks", () => {
  const pem = "-----BEGIN CERTIFICATE-----\nx\n-----END CERTIFICATE-----\n";
  const document = { ca_certificate: pem + pem, wifi: [{ ssid: "home" }, { ssid: "shed" }] };
  expect(layerValues({ ...LAYER, document })).toBe("ca_certificate: 2 CAs, wifi: home + shed, trial_seconds: 60");
  expect(layerValues({ ...LAYER, removed: true })).toBe("removed");
});

test("an IPv6 address is told from its port, and a profile that only devices know is named so", () => {
  const profile: ProfileUse = {
    connection_id: "8a1c52d0e7f34b96",
    known: true,
    mqtt_host: "fd00::1",
    mqtt_port: 8883,
    authorities: ["CN=one"],
    wifi: ["home"],
    in_use: 1,
    fallback: 0,
    waiting: 0,
    refused: 0,
  };
  expect(placeOf(profile)).toBe("[fd00::1]:8883, 1 CA, Wi-Fi home");
  expect(placeOf({ ...profile, known: false })).toBe("not known to this database");
});

test("that nobody depends on an authority is said only where there is another, and with what is not known", () => {
  const old = {
    subject: "CN=old",
    fingerprint: "1",
    ends_at: "2027-01-01T00:00:00Z",
    devices: 4,
    alone: 1,
    claims: [],
  };
  const fresh = { ...old, subject: "CN=new", fingerprint: "2", alone: 0 };
  expect(conclusions({ ...STATUS, authorities: [fresh] })).toEqual([]);
  expect(conclusions({ ...STATUS, authorities: [old, fresh], without_package: 2 })).toEqual([
    "1 device trusts CN=old alone.",
    "Nobody depends on CN=new any more, as far as is known.",
    "Nothing is known of 2 devices whose package is older than profiles.",
  ]);
  expect(conclusions({ ...STATUS, authorities: [{ ...fresh, claims: ["c1"] }, old] })[0]).toBe(
    "Open claims whose packages trust CN=new alone: c1.",
  );
});

test("a device that refused a profile shows since when and why", () => {
  const device: DeviceConnectionView = {
    progress: "refused",
    wanted: "b",
    first: "a",
    fallback: null,
    in_use: "a",
    refused_id: "b",
    refused_outcome: "reverted",
    refused_reason: "no answer",
    refused_at: "2026-01-01T00:00:00Z",
    reported_at: null,
    sent_id: "b",
    sent_at: null,
  };
  expect(progressOf(device)).toMatch(/^a → b \(reverted since .*2026.*: no answer\)$/);
  expect(progressOf({ ...device, progress: "waiting", sent_id: null })).toBe("a → b (not sent yet)");
});
