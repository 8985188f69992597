import { signal } from "@preact/signals";

import { Connection } from "../mqtt/connection.ts";
import { ACCOUNT_WHOAMI, type NamedEvent, type Operation, type Role } from "../protocol.ts";

const KEPT = "mdm-login";
const REMEMBERED_EVENTS = 200;

export type Link =
  | { readonly state: "out"; readonly reason?: string }
  | { readonly state: "connecting"; readonly account: string }
  | { readonly state: "up" | "lost"; readonly account: string };

export const link = signal<Link>({ state: "out" });
/** Number of connections; earlier answers may be out of date, as events may have been missed. */
export const connections = signal(0);
/** The account's role; undefined until the registry has said it. */
export const role = signal<Role>();
/** The newest events first. */
export const recentEvents = signal<readonly NamedEvent[]>([]);

let connection: Connection | undefined;
const listeners = new Set<(event: NamedEvent) => void>();

/** Connects, or throws a LoginError. `keep` stores the password for reloads until the tab is closed. */
export async function logIn(account: string, password: string, keep: boolean): Promise<void> {
  link.value = { state: "connecting", account };
  const up = () => {
    link.value = { state: "up", account };
    connections.value += 1;
    void readRole();
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
      event: emit,
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

/** The login stored for this tab, if any. */
export function keptLogin(): readonly [account: string, password: string] | undefined {
  const kept = sessionStorage.getItem(KEPT);
  return kept === null ? undefined : (JSON.parse(kept) as [string, string]);
}

const RANKS: Record<Role, number> = { app: 0, viewer: 1, operator: 2, admin: 3 };

/** Why the account may not do this, or undefined if it may, or if its role is not known yet: the broker decides. */
export function refusalFor({ role: least }: Pick<Operation<unknown, unknown>, "role">): string | undefined {
  const here = role.value;
  return here === undefined || RANKS[here] >= RANKS[least]
    ? undefined
    : `This needs the role ${least}; your account is ${here}.`;
}

async function readRole(): Promise<void> {
  try {
    role.value = (await ask(ACCOUNT_WHOAMI, {})).role;
  } catch {
    role.value = undefined; // the registry does not answer: what is refused is said by the broker
  }
}

/** Closes the connection and deletes the password; `reason` is set unless the user has logged out. */
export function logOut(reason = ""): void {
  sessionStorage.removeItem(KEPT);
  link.value = { state: "out", reason };
  connection?.close();
  connection = undefined;
  recentEvents.value = [];
  role.value = undefined;
}

export function ask<Asked, Answered>(operation: Operation<Asked, Answered>, fields: Asked): Promise<Answered> {
  return connection?.ask(operation, fields) ?? Promise.reject(new Error("Not logged in."));
}

/** Calls `listener` for each event from now on, until the returned function is called. */
export function onEvent(listener: (event: NamedEvent) => void): () => void {
  listeners.add(listener);
  return () => listeners.delete(listener);
}

const seen = new Set<string>();
let waiting: NamedEvent[] = [];

function emit(event: NamedEvent): void {
  if (seen.has(event.event_id)) {
    return; // events may arrive twice
  }
  seen.add(event.event_id);
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
  for (const id of [...seen].slice(0, -10 * REMEMBERED_EVENTS)) {
    seen.delete(id);
  }
}
