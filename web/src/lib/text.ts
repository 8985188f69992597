import type { Json } from "../protocol.ts";
import { toJson } from "./json.ts";

const TIME = new Intl.DateTimeFormat(undefined, { dateStyle: "medium", timeStyle: "medium" });
const HOUR = new Intl.DateTimeFormat(undefined, {
  month: "short",
  day: "numeric",
  hour: "numeric",
  minute: "2-digit",
});
const AGO = new Intl.RelativeTimeFormat(undefined, { numeric: "auto" });
const UNITS: readonly (readonly [Intl.RelativeTimeFormatUnit, number])[] = [
  ["day", 86_400],
  ["hour", 3_600],
  ["minute", 60],
  ["second", 1],
];

export function time(text: string | null | undefined): string {
  return text ? TIME.format(new Date(text)) : "never";
}

/** Formats a time of the last weeks, in little room. */
export function hour(text: string | undefined): string {
  return text ? HOUR.format(new Date(text)) : "";
}

/** Formats a time as clocks in an IANA zone show it; in UTC if the browser does not know the zone. */
export function timeIn(zone: string, text: string): string {
  const style = { dateStyle: "full", timeStyle: "short" } as const;
  let format: Intl.DateTimeFormat;
  try {
    format = new Intl.DateTimeFormat(undefined, { ...style, timeZone: zone });
  } catch {
    format = new Intl.DateTimeFormat(undefined, { ...style, timeZone: "UTC" });
    return `${format.format(new Date(text))} UTC`;
  }
  return format.format(new Date(text));
}

export function ago(text: string | null | undefined, now = Date.now()): string {
  if (!text) {
    return "never";
  }
  // Events are never in the future, even if this clock is slow.
  const seconds = Math.min(0, Math.round((Date.parse(text) - now) / 1000));
  const [unit, length] = UNITS.find(([, size]) => Math.abs(seconds) >= size) ?? (["second", 1] as const);
  return AGO.format(Math.trunc(seconds / length), unit);
}

export function plural(count: number, one: string, many = `${one}s`): string {
  return `${count.toLocaleString()} ${count === 1 ? one : many}`;
}

/** Splits text at spaces and commas. */
export function words(text: string): string[] {
  return text.split(/[\s,]+/).filter(Boolean);
}

/** Formats a value for display. */
export function show(value: Json | undefined): string {
  if (value === null || value === undefined || value === "") {
    return "–";
  }
  return typeof value === "string" ? value : toJson(value);
}

/** Formats a document for display, without ids and hashes. */
export function facts(data: object | null | undefined): string {
  return Object.entries((data ?? {}) as Record<string, Json>)
    .filter(([name, value]) => value !== null && !/(^|_)(id|sha256)$/.test(name))
    .map(([name, value]) => `${name}: ${show(value)}`)
    .join(" · ");
}
