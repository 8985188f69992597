import type { DeviceView } from "../protocol.ts";
import { inStep } from "./census.ts";

const LEVELS = ["healthy", "disabled", "never_seen", "warning", "inactive", "critical"];

/** What the device list is sorted by, by column. */
const KEYS: Record<string, (device: DeviceView) => string | number> = {
  Device: ({ name, client_id: id }) => (name || id).toLowerCase(),
  Model: ({ model }) => model,
  State: ({ enabled, presence }) => (enabled ? presence : "disabled"),
  Health: ({ health }) => LEVELS.indexOf(health),
  Configuration: (device) => (inStep(device) ? 0 : 1),
  Secret: ({ secret_created_at: at }) => Date.parse(at),
  "Secret since": ({ secret_created_at: at }) => Date.parse(at),
  Tags: ({ tags }) => tags.join(" "),
  Firmware: ({ firmware_version: version }) => version ?? "",
  "Last seen": ({ online, last_seen_at: at }) => (online ? Infinity : at ? Date.parse(at) : 0),
};

export interface Order {
  readonly column: string;
  readonly isDescending: boolean;
}

const COMPARE = new Intl.Collator(undefined, { numeric: true }).compare;

/** The devices in this order; those that are equal stay in theirs. */
export function sorted(devices: readonly DeviceView[], order: Order | undefined): readonly DeviceView[] {
  const keyOf = order && KEYS[order.column];
  if (keyOf === undefined) {
    return devices;
  }
  const sign = order?.isDescending ? -1 : 1;
  return devices
    .map((device) => [keyOf(device), device] as const)
    .sort(([one], [other]) => sign * compared(one, other))
    .map(([, device]) => device);
}

function compared(one: string | number, other: string | number): number {
  return typeof one === "number" && typeof other === "number"
    ? one - other || 0
    : COMPARE(String(one), String(other));
}
