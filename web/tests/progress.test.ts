import { expect, test, vi } from "vitest";

import { DEVICE_LIST, DEVICE_SHOW, FIRMWARE_OF, type NamedEvent } from "../src/protocol.ts";

const asked: [operation: unknown, fields: unknown][] = [];
let tell: (event: NamedEvent) => void;

vi.stubGlobal("requestAnimationFrame", (draw: () => void) => setTimeout(draw));
vi.stubGlobal("cancelAnimationFrame", clearTimeout);
vi.mock("../src/state/session.ts", () => ({
  ask: (operation: unknown, fields: unknown) => {
    asked.push([operation, fields]);
    return Promise.resolve({ devices: [], next: null });
  },
  connections: { subscribe: () => undefined },
  link: { subscribe: () => undefined, peek: () => ({ state: "in" }) },
  onEvent: (listener: typeof tell) => (tell = listener),
}));

test("many downloads ask for the progress of these devices, not for the whole fleet", async () => {
  const { followFleet } = await import("../src/state/fleet.ts");
  followFleet();
  const names = Array.from({ length: 50 }, (_, number) => `device ${number}`);
  const report = (name: string, stage: string) =>
    tell({ noun: "firmware", verb: "reported", client_id: name, data: { stage } } as NamedEvent);
  report("device 0", "confirmed");
  await vi.waitFor(() => expect(asked).toEqual([[DEVICE_LIST, { after: 0, limit: 500 }]]));
  asked.length = 0;
  names.forEach((name) => report(name, "downloading"));
  await vi.waitFor(() => expect(asked).toEqual([[FIRMWARE_OF, { devices: names }]]), 3_000);
  report("device 0", "confirmed");
  await vi.waitFor(() => expect(asked[1]).toEqual([DEVICE_SHOW, { device: "device 0" }]), 3_000);
});
