import type { DeviceView } from "../protocol.ts";
import { sideBySide } from "./sideBySide.ts";

/** How many of the devices are done, and of which it was refused. */
export interface Tally {
  readonly done: number;
  readonly whole: number;
  readonly failed: readonly { readonly name: string; readonly reason: string }[];
}

const SIDE_BY_SIDE = 8;

/** Does the work for each device, some at once, and tells how far it is; a failure of one stops no other. */
export async function eachOf(
  devices: readonly DeviceView[],
  work: (device: DeviceView) => Promise<unknown>,
  told: (tally: Tally) => void,
): Promise<void> {
  const failed: Tally["failed"][number][] = [];
  let done = 0;
  const tell = () => told({ done, whole: devices.length, failed: [...failed] });
  tell();
  await sideBySide(devices, SIDE_BY_SIDE, async (device) => {
    try {
      await work(device);
    } catch (error) {
      const reason = error instanceof Error ? error.message : String(error);
      failed.push({ name: device.name || device.client_id, reason });
    }
    done += 1;
    tell();
  });
}
