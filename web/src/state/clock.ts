import { signal } from "@preact/signals";

/** The time by which "3 minutes ago" is told; it goes on every ten seconds. */
export const now = signal(Date.now());

setInterval(() => {
  now.value = Date.now();
}, 10_000);
