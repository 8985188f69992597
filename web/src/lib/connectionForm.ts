import type { ConnectionLayerView, ConnectionSet, ConnectionTarget, Json, WifiNetwork } from "../protocol.ts";
import { show } from "./text.ts";

/** The fields of the form but Wi-Fi; empty is what the layers below say. */
const TEXTS = [
  "mqtt_host",
  "mqtt_port",
  "mqtt_tls",
  "mqtt_auth",
  "token_url",
  "ca_certificate",
  "recovery_port",
  "trial_seconds",
  "priority",
] as const;
export type TextName = (typeof TEXTS)[number];
export type Texts = Readonly<Record<TextName, string>>;
/** The networks of a layer: as they are, those of the layers below, or new ones. */
export type Wifi = "kept" | "below" | readonly WifiNetwork[];

export function textsOf(layer: ConnectionLayerView | undefined): Texts {
  const all: Record<string, Json | undefined> = {
    ...layer?.document,
    trial_seconds: layer?.trial_seconds,
    priority: layer?.priority ?? 0,
  };
  const textOf = (value: Json | undefined) => (value === undefined || value === null ? "" : show(value));
  return Object.fromEntries(TEXTS.map((name) => [name, textOf(all[name])])) as Texts;
}

/** Only what differs from the layer, so that others' changes are kept; undefined if nothing does. */
export function changeOf(
  layer: ConnectionLayerView | undefined,
  texts: Texts,
  wifi: Wifi,
): Omit<ConnectionSet, keyof ConnectionTarget> | undefined {
  const before = textsOf(layer);
  const change: Record<string, unknown> = {};
  const unset: string[] = [];
  for (const name of TEXTS) {
    const text = texts[name].trim();
    if (text === before[name].trim()) {
      continue;
    }
    if (text === "" && name !== "priority") {
      unset.push(name);
    } else {
      change[name] = valueOf(name, text);
    }
  }
  if (wifi === "below" && layer?.document.wifi !== undefined) {
    unset.push("wifi");
  } else if (typeof wifi !== "string") {
    change.wifi = wifi;
  }
  if (unset.length > 0) {
    change.unset = unset;
  }
  return Object.keys(change).length === 0 ? undefined : change;
}

function valueOf(name: TextName, text: string): string | number | boolean {
  switch (name) {
    case "mqtt_tls":
      return text === "true";
    case "mqtt_port":
    case "recovery_port":
    case "trial_seconds":
    case "priority":
      return Number(text);
    default:
      return text;
  }
}

/** The field of the form that a refusal names, as in `mqtt_port: must be ...` or `wifi[0].ssid: ...`. */
export function fieldIn(message: string): string | undefined {
  const name = /^([a-z_]+)[^:]*: /.exec(message)?.[1];
  return [...TEXTS, "wifi"].find((one) => one === name);
}
