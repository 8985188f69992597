import { expect, test } from "vitest";

import { explained } from "../src/flash/errors.ts";
import { esptoolCommand, imageName, nvsName } from "../src/flash/files.ts";
import { appParts, nvsPlace, parseTable, type Partition } from "../src/flash/partitions.ts";
import { DEFAULT_PLAN, isRight, numberOf, nvsOf, problemsOf } from "../src/flash/plan.ts";
import type { ImageView } from "../src/protocol.ts";

const NVS: Partition = { name: "nvs", type: 1, subtype: 2, offset: 0x9000, size: 0x6000 };
const OTA_DATA: Partition = { name: "otadata", type: 1, subtype: 0, offset: 0xd000, size: 0x2000 };
const FACTORY: Partition = { name: "factory", type: 0, subtype: 0, offset: 0x10000, size: 0x1000 };
const SLOT: Partition = { name: "ota_0", type: 0, subtype: 0x10, offset: 0x20000, size: 0x1000 };
const IMAGE = new Uint8Array(16);

test("a partition table is read up to its digest", () => {
  const table = new Uint8Array(96).fill(0xff);
  const view = new DataView(table.buffer);
  for (const [number, { name, type, subtype, offset, size }] of [NVS, FACTORY].entries()) {
    const at = number * 32;
    table.fill(0, at, at + 32);
    view.setUint16(at, 0x50aa, true);
    view.setUint8(at + 2, type);
    view.setUint8(at + 3, subtype);
    view.setUint32(at + 4, offset, true);
    view.setUint32(at + 8, size, true);
    new TextEncoder().encodeInto(name, table.subarray(at + 12));
  }
  view.setUint16(64, 0xebeb, true);
  expect(parseTable(table)).toEqual([NVS, FACTORY]);
  expect(() => parseTable(new Uint8Array(64).fill(0xff))).toThrow("The chip has no partition table at 0x8000");
});

test("an image comes with a blank choice of image, where the chip has one", () => {
  expect(appParts([NVS, FACTORY], 0x10000, IMAGE)).toEqual([{ address: 0x10000, data: IMAGE }]);
  expect(appParts([OTA_DATA, SLOT, FACTORY], 0x10000, IMAGE)).toEqual([
    { address: 0x10000, data: IMAGE },
    { address: 0xd000, data: new Uint8Array(0x2000).fill(0xff) },
  ]);
  expect(appParts([OTA_DATA, SLOT], 0x20000, IMAGE)).toHaveLength(2);
});

test.each([
  [[NVS], 0x10000, IMAGE, "starts the app at no address, not at 0x10000: its partition table has none"],
  [[SLOT], 0x10000, IMAGE, "starts the app at 0x20000, not at 0x10000"],
  [[SLOT, FACTORY], 0x20000, IMAGE, "starts the app at 0x10000, not at 0x20000"],
  [
    [FACTORY],
    0x10000,
    new Uint8Array(0x1001),
    "has 4097 bytes, but the chip's app partition factory only has 4096",
  ],
])("an image that the chip would not start there is refused %#", (table, address, image, reason) => {
  expect(() => appParts(table, address, image)).toThrow(reason);
});

test("an NVS of another place or size is refused", () => {
  const place = (address: number, sizeBytes: number) => ({ address, sizeBytes });
  expect(nvsPlace([FACTORY, NVS], place(0x9000, 0x6000))).toEqual(place(0x9000, 0x6000));
  expect(() => nvsPlace([NVS], place(0x9000, 0x4000))).toThrow("but nvs at 0x9000 (0x6000 bytes)");
  expect(() => nvsPlace([NVS], place(0xa000, 0x6000))).toThrow("no NVS at 0xa000");
  const own = { ...NVS, name: "mdm", offset: 0x3b0000, size: 0x20000 };
  expect(nvsPlace([NVS, own], place(0x9000, 0x6000))).toEqual(place(0x3b0000, 0x20000));
});

test("addresses and sizes are decimal or hexadecimal", () => {
  expect(["0x9000", "36864", " 0X9000 "].map(numberOf)).toEqual([0x9000, 0x9000, 0x9000]);
  expect(["", "9000h", "-1", "1e4", "0x"].map(numberOf)).toEqual([NaN, NaN, NaN, NaN, NaN]);
});

test("a plan names the fields that break a rule", () => {
  expect(problemsOf(DEFAULT_PLAN)).toEqual({});
  expect(isRight(DEFAULT_PLAN)).toBe(true);
  expect(isRight({ ...DEFAULT_PLAN, provision: false })).toBe(false);
  const wrong = { ...DEFAULT_PLAN, appAddress: "0x10001", nvsAddress: "", nvsSize: "0x2000" };
  expect(Object.keys(problemsOf(wrong))).toEqual(["appAddress", "nvsAddress", "nvsSize"]);
  expect(isRight(wrong)).toBe(false);
});

test("a network is asked for only if something of it is given", () => {
  const plain = { device: "x", size_bytes: 0x6000 };
  expect(nvsOf(DEFAULT_PLAN, "x")).toEqual(plain);
  expect(nvsOf({ ...DEFAULT_PLAN, ssid: "home" }, "x")).toEqual({
    ...plain,
    wifi_ssid: "home",
    wifi_password: "",
  });
  expect(nvsOf({ ...DEFAULT_PLAN, provision: false }, "x")).toBeUndefined();
});

test("files have names that a shell takes as they are", () => {
  const image = { model: "blink", version: "1.0 $(beta)" } as ImageView;
  expect(imageName(image)).toBe("blink-1.0-beta-.bin");
  const files = [
    { name: imageName(image), address: 0x10000 },
    { name: nvsName("iotdevice-blink-abc"), address: 0x9000 },
  ];
  expect(esptoolCommand("esp32", 460800, files)).toBe(
    "esptool --chip esp32 --baud 460800 write-flash 0x10000 blink-1.0-beta-.bin 0x9000 iotdevice-blink-abc-nvs.bin",
  );
  expect(esptoolCommand(undefined, 115200, [])).toBe("esptool --baud 115200 write-flash ");
});

test("errors are told in plain words, and others as they are", () => {
  const named = (name: string, message: string) => Object.assign(new Error(message), { name });
  expect(explained(named("NetworkError", "Failed to open serial port.")).message).toContain("Another program");
  expect(explained(named("NetworkError", "The device has been lost.")).message).toContain("was lost");
  expect(explained(new Error("size_bytes: must be less")).message).toBe("size_bytes: must be less");
  expect(explained("odd").message).toBe("odd");
});
