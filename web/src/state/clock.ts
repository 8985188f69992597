import { signal } from "@preact/signals";

/** The current time for texts such as "3 minutes ago", updated every ten seconds. */
export const now = signal(Date.now());

setInterval(() => {
  now.value = Date.now();
}, 10_000);
