import { signal } from "@preact/signals";

import { Connection } from "../mqtt/connection.ts";
import type { NamedEvent, Operation } from "../protocol.ts";

const KEPT = "mdm-login";
const REMEMBERED_EVENTS = 200;

export type Link =
  | { readonly state: "out"; readonly reason?: string }
  | { readonly state: "connecting"; readonly account: string }
  | { readonly state: "up" | "lost"; readonly account: string };

export const link = signal<Link>({ state: "out" });
/** Grows at each connection: what was asked before may be out of date, for events may have been missed. */
export const connections = signal(0);
/** The newest events first. */
export const recentEvents = signal<readonly NamedEvent[]>([]);

let connection: Connection | undefined;
const listeners = new Set<(event: NamedEvent) => void>();

/** Connects, or throws a LoginError. `keep` holds the password for reloads, until the tab is closed. */
export async function logIn(account: string, password: string, keep: boolean): Promise<void> {
  link.value = { state: "connecting", account };
  const up = () => {
    link.value = { state: "up", account };
    connections.value += 1;
  };
  try {
    connection = await Connection.open(account, password, {
      up,
      lost: () => {
        if (link.value.state === "up") {
          link.value = { state: "lost", account };
        }
      },
      refused: ({ message }) => logOut(message),
      event: announce,
    });
    up();
  } catch (error) {
    link.value = { state: "out" };
    sessionStorage.removeItem(KEPT);
    throw error;
  }
  if (keep) {
    sessionStorage.setItem(KEPT, JSON.stringify([account, password]));
  }
}

/** The login that this tab has kept, if any. */
export function keptLogin(): readonly [account: string, password: string] | undefined {
  const kept = sessionStorage.getItem(KEPT);
  return kept === null ? undefined : (JSON.parse(kept) as [string, string]);
}

/** Ends the connection and forgets the password, for a reason if the person did not ask for it. */
export function logOut(reason = ""): void {
  sessionStorage.removeItem(KEPT);
  link.value = { state: "out", reason };
  connection?.close();
  connection = undefined;
  recentEvents.value = [];
}

export function ask<Asked, Answered>(operation: Operation<Asked, Answered>, fields: Asked): Promise<Answered> {
  return connection?.ask(operation, fields) ?? Promise.reject(new Error("Not logged in."));
}

/** Calls `listener` for each event from now on, until the returned function is called. */
export function onEvent(listener: (event: NamedEvent) => void): () => void {
  listeners.add(listener);
  return () => listeners.delete(listener);
}

const told = new Set<string>();
let waiting: NamedEvent[] = [];

function announce(event: NamedEvent): void {
  if (told.has(event.event_id)) {
    return; // an event may come twice
  }
  told.add(event.event_id);
  for (const listener of listeners) {
    listener(event);
  }
  if (waiting.push(event) === 1) {
    requestAnimationFrame(remember);
  }
}

function remember(): void {
  recentEvents.value = [...waiting.reverse(), ...recentEvents.value].slice(0, REMEMBERED_EVENTS);
  waiting = [];
  for (const id of [...told].slice(0, -10 * REMEMBERED_EVENTS)) {
    told.delete(id);
  }
}
