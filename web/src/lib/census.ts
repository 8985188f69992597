import type { Slice } from "../components/charts.tsx";
import type { Tone } from "../components/basics.tsx";
import type { DeviceView } from "../protocol.ts";

const MOST_VERSIONS = 8;

/** Whether a device was seen, and its applied configuration is not the desired one. */
export function drifts(device: DeviceView): boolean {
  return device.last_seen_at !== null && !inStep(device);
}

export function inStep(device: DeviceView): boolean {
  return device.config_version_reported === device.config_version && device.config_outcome === "applied";
}

export const HEALTH_TONES: Record<DeviceView["health"], Tone> = {
  healthy: "good",
  warning: "warn",
  critical: "bad",
  inactive: "calm",
  never_seen: "calm",
  disabled: "calm",
};

export const PRESENCE_TONES: Record<DeviceView["presence"], Tone> = {
  online: "good",
  asleep: "busy",
  offline: "calm",
};

export const ROTATION_TONES: Partial<Record<string, Tone>> = {
  OK: "good",
  QUEUED: "calm",
  PENDING: "busy",
  TIMEOUT: "bad",
};

/** What a state or an outcome of rotations is called in all views. */
export function rotationWord(state: string): string {
  return { PENDING: "in progress", TIMEOUT: "timed out" }[state] ?? state.toLowerCase();
}

/** The number of devices by value, the most frequent first. */
export function count<T>(devices: readonly T[], valueOf: (device: T) => string): Map<string, number> {
  const counts = new Map<string, number>();
  for (const device of devices) {
    const value = valueOf(device);
    counts.set(value, (counts.get(value) ?? 0) + 1);
  }
  return new Map([...counts].sort(([, one], [, other]) => other - one));
}

/** The most frequent firmware versions, by model if there are several, and all others combined. */
export function versions(devices: readonly DeviceView[], hrefOf: (search: string) => string): Slice[] {
  const isMixed = new Set(devices.map(({ model }) => model)).size > 1;
  const counts = [...count(devices, ({ model, firmware_version: version }) => `${model} ${version ?? "unknown"}`)];
  const shown = counts.slice(0, MOST_VERSIONS).map(([name, number]) => {
    const [model, ...version] = name.split(" ");
    const terms = [...(isMixed ? [`model:${model}`] : []), `firmware:${version.join(" ")}`];
    return { name: isMixed ? name : version.join(" "), count: number, href: hrefOf(terms.join(" ")) };
  });
  const others = counts.slice(MOST_VERSIONS).reduce((sum, [, number]) => sum + number, 0);
  return others === 0 ? shown : [...shown, { name: "others", count: others, href: hrefOf("") }];
}
