import { SelectField } from "./fields.tsx";
import { plural } from "../lib/text.ts";
import type { DeviceView } from "../protocol.ts";
import { fleet, tagsOf } from "../state/fleet.ts";

/** All devices, those of a model, those with a tag, or one: as operations on many take it. */
export interface Selected {
  readonly all?: boolean;
  readonly model?: string;
  readonly tag?: string;
  readonly device?: string;
}

export const ALL: Selected = { all: true };

/** Selects devices by model or tag. */
export function SelectionField({ of, change }: { of: Selected; change: (of: Selected) => void }) {
  const { devices } = fleet.value;
  const models = [...new Set(devices.map(({ model }) => model))].sort();
  const options = [
    ["{}", "all devices", ALL] as const,
    ...models.map((model) => [`model ${model}`, `model ${model}`, { model }] as const),
    ...tagsOf(devices).map((tag) => [`tag ${tag}`, `tag ${tag}`, { tag }] as const),
  ];
  return (
    <SelectField
      label="Devices"
      value={of.model ? `model ${of.model}` : of.tag ? `tag ${of.tag}` : "{}"}
      options={options.map(([value, text]) => [value, text])}
      onChange={(event) => change(options.find(([value]) => value === event.currentTarget.value)?.[2] ?? ALL)}
    />
  );
}

/** The devices that are selected, as far as the page knows them. */
export function devicesOf({ model, tag, device }: Selected): DeviceView[] {
  return fleet.value.devices.filter(
    (one) =>
      (!model || one.model === model) && (!tag || one.tags.includes(tag)) && (!device || one.client_id === device),
  );
}

/** What a command for these would reach: how many are there, and how many of them are not online. */
export function reach(of: Selected): string {
  const found = devicesOf(of);
  const away = found.filter(({ presence }) => presence !== "online").length;
  return `${plural(found.length, "device")}${away > 0 ? `, of which ${away} ${away === 1 ? "is" : "are"} not online` : ""}`;
}
