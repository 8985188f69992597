import type { Tone } from "../components/basics.tsx";
import type {
  ConnectionEffect,
  ConnectionLayerView,
  ConnectionStatus,
  ConnectionTarget,
  ConnectionValue,
  ConnectionView,
  DeviceConnectionView,
  Json,
  ProfileUse,
} from "../protocol.ts";
import { plural, show, time } from "./text.ts";

export const PROGRESS_TONES: Record<DeviceConnectionView["progress"], Tone> = {
  "in use": "good",
  waiting: "busy",
  refused: "bad",
  fallback: "warn",
  "as provisioned": "calm",
};

/** What a device uses, what is wanted for it if that is something else, and why it has that not. */
export function progressOf(device: DeviceConnectionView): string {
  const has = device.in_use ?? "that of its package";
  switch (device.progress) {
    case "in use":
      return `${has}, as wanted`;
    case "as provisioned":
      return `${has}; it has never reported one`;
    case "fallback":
      return `${has} → ${device.wanted}; it cannot connect with ${device.first ?? "its own"}, and uses the former one`;
    case "refused":
      return `${has} → ${device.wanted} (${refusalOf(device)})`;
    case "waiting":
      return `${has} → ${device.wanted} (${device.sent_id === device.wanted ? `sent ${time(device.sent_at)}` : "not sent yet"})`;
  }
}

/** Since when and why a device refuses a profile. */
export function refusalOf(device: DeviceConnectionView): string {
  const outcome = device.refused_outcome ?? "refused";
  return `${outcome} since ${time(device.refused_at)}${device.refused_reason === null ? "" : `: ${device.refused_reason}`}`;
}

/** Where the devices with a profile connect to. */
export function placeOf(profile: ProfileUse): string {
  if (!profile.known || profile.mqtt_host === null) {
    return "not known to this database";
  }
  const host = profile.mqtt_host.includes(":") ? `[${profile.mqtt_host}]` : profile.mqtt_host;
  return [
    `${host}:${profile.mqtt_port ?? ""}`,
    ...(profile.authorities.length > 0 ? [plural(profile.authorities.length, "CA")] : []),
    ...profile.wifi.map((name) => `Wi-Fi ${name}`),
  ].join(", ");
}

/** Sentences about who depends on which authority, and what is not known. */
export function conclusions(status: ConnectionStatus): string[] {
  const unsure = status.without_package > 0 ? ", as far as is known" : "";
  const found: string[] = [];
  for (const { subject, alone, claims } of status.authorities) {
    if (alone > 0) {
      found.push(`${plural(alone, "device trusts", "devices trust")} ${subject} alone.`);
    }
    if (claims.length > 0) {
      found.push(`Open claims whose packages trust ${subject} alone: ${claims.join(", ")}.`);
    }
    if (alone === 0 && claims.length === 0 && status.authorities.length > 1) {
      found.push(`Nobody depends on ${subject} any more${unsure}.`);
    }
  }
  if (status.as_provisioned > 0) {
    const devices = plural(status.as_provisioned, "device has", "devices have");
    found.push(`${devices} never reported a profile: counted by their package.`);
  }
  if (status.without_package > 0) {
    found.push(
      `Nothing is known of ${plural(status.without_package, "device")} whose package is older than profiles.`,
    );
  }
  if (status.on_fallback > 0) {
    const devices = plural(status.on_fallback, "device runs on its fallback", "devices run on their fallback");
    found.push(`${devices}: mdm doctor names them.`);
  }
  return found;
}

/** What a change will do, for the person who is asked. */
export function effectLines({ changed, devices, moving, unable }: ConnectionEffect): string[] {
  if (!changed) {
    return ["Nothing changes; devices that did not keep the profile are sent it again."];
  }
  const wanting = plural(devices, "device wants", "devices want");
  return [
    `${wanting} another profile by this; ${moving} of them move, when they are online.`,
    ...(unable > 0 ? [`${unable} of them cannot: they have never reported a profile.`] : []),
  ];
}

/** What a change has done. */
export function effectDone({ number }: ConnectionEffect): string {
  return number === null
    ? "Nothing changed; devices that did not keep the profile are sent it again."
    : `Layer ${number} is in force.`;
}

export function targetText({ tag, device }: ConnectionTarget): string {
  return tag ? `devices with the tag ${tag}` : (device ?? "all devices");
}

/** The devices of a layer; undefined if admins cannot change it: the registry's settings, or a removed device. */
export function targetOf({ scope, tag, client_id }: ConnectionLayerView): ConnectionTarget | undefined {
  switch (scope) {
    case "settings":
      return undefined;
    case "all":
      return { all: true };
    case "tag":
      return tag === null ? undefined : { tag };
    case "device":
      return client_id === null ? undefined : { device: client_id };
  }
}

export function layerFor({ client_id, tag, scope }: ConnectionLayerView): string {
  return client_id ?? (tag ? `tag ${tag}` : scope);
}

/** What a layer sets, as text. */
export function layerValues(layer: ConnectionLayerView): string {
  if (layer.removed) {
    return "removed";
  }
  const values = Object.entries(layer.document).map(([name, value]) => `${name}: ${brief(name, value)}`);
  return [
    ...values,
    ...(layer.trial_seconds === null ? [] : [`trial_seconds: ${layer.trial_seconds}`]),
    ...(layer.priority === 0 ? [] : [`priority: ${layer.priority}`]),
  ].join(", ");
}

function brief(name: string, value: Json): string {
  if (name === "ca_certificate" && typeof value === "string") {
    return plural(value.split("BEGIN CERTIFICATE").length - 1, "CA");
  }
  return name === "wifi" ? networkNames(value).join(" + ") : show(value);
}

/** The names of networks in a layer's document. */
export function networkNames(value: Json | undefined): string[] {
  return Array.isArray(value) ? value.map((it) => show((it as Record<string, Json>).ssid)) : [];
}

/** A value of a wanted profile, as text. */
export function valueText({ field, value }: ConnectionValue, view: ConnectionView): string {
  if (field === "ca_certificate") {
    return view.authorities.map(({ subject, ends_at }) => `${subject} until ${ends_at.slice(0, 10)}`).join(", ");
  }
  if (typeof value === "boolean") {
    return value ? "yes" : "no";
  }
  return Array.isArray(value) ? value.join(", ") : String(value);
}
