import type { DeviceView } from "../protocol.ts";
import { drifts } from "./census.ts";

/** Search terms with a name, such as `online:yes health:critical`. */
const WORDS: Record<string, (device: DeviceView, value: string) => boolean> = {
  online: (device, value) => device.online === isYes(value),
  presence: (device, value) => device.presence === value,
  drift: (device, value) => drifts(device) === isYes(value),
  enabled: (device, value) => device.enabled === isYes(value),
  health: (device, value) => device.health === value,
  reason: (device, value) => device.health_reasons.some(({ reason }) => reason === value),
  rotation: (device, value) => device.rotation_state.toLowerCase() === value,
  firmware: (device, value) => (device.firmware_version ?? "unknown").toLowerCase().startsWith(value),
  model: (device, value) => device.model === value,
  tag: (device, value) => device.tags.some((tag) => tag.toLowerCase() === value),
};

export function terms(text: string): string[] {
  return text.split(/\s+/).filter(Boolean);
}

/** The terms of a text that look like `name:value` and have a name that there is not. */
export function unknownWords(text: string): string[] {
  return terms(text).filter((word) => /^[a-z]+:/.test(word) && !Object.hasOwn(WORDS, word.split(":")[0] ?? ""));
}

/** The devices that match all terms: named ones, or parts of id, name, model and tags. */
export function search(devices: readonly DeviceView[], text: string): readonly DeviceView[] {
  const tests = terms(text.toLowerCase()).map(testOf);
  return tests.length === 0 ? devices : devices.filter((device) => tests.every((test) => test(device)));
}

function testOf(word: string): (device: DeviceView) => boolean {
  const [name = "", value] = word.split(/:(.*)/s);
  const named = Object.hasOwn(WORDS, name) ? WORDS[name] : undefined;
  if (named !== undefined && value !== undefined) {
    return (device) => named(device, value);
  }
  return ({ client_id: id, name: called, model, tags }) =>
    [id, called, model, ...tags].some((part) => part.toLowerCase().includes(word));
}

function isYes(value: string): boolean {
  return value === "yes" || value === "true";
}
