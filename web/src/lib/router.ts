import { computed, signal } from "@preact/signals";

/** The part of the URL after `#/`, by levels: `["device", "iotdevice-m-1", "log"]`. */
const hash = signal(window.location.hash);
window.addEventListener("hashchange", () => {
  hash.value = window.location.hash;
});

export const path = computed<readonly string[]>(() =>
  hash.value
    .replace(/^#?\/?/, "")
    .split("/")
    .map(decodeURIComponent)
    .filter(Boolean),
);

export function href(...levels: (string | number)[]): string {
  return `#/${levels.map((level) => encodeURIComponent(level)).join("/")}`;
}

export function go(...levels: (string | number)[]): void {
  window.location.hash = href(...levels);
}
