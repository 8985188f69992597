import { signal } from "@preact/signals";

import { Throttle } from "../lib/throttle.ts";
import {
  DEVICE_LIST,
  DEVICE_SHOW,
  FIRMWARE_OF,
  type DeviceFirmware,
  type DeviceView,
  type NamedEvent,
} from "../protocol.ts";
import { RefusedError } from "../mqtt/asker.ts";
import { asError } from "./query.ts";
import { ask, connections, link, onEvent } from "./session.ts";

const PAGE = 500;
/** If more devices have changed, all pages are read instead. */
const ONE_BY_ONE = 20;
const PAUSE_MS = 1_000;
/** Events with these nouns and without a device may concern any number of devices. */
const ABOUT_MANY = new Set<NamedEvent["noun"]>(["firmware", "layer", "model", "rotation"]);

export interface FleetState {
  readonly devices: readonly DeviceView[];
  /** What is wanted for each device, by client id; empty while the firmware service does not answer. */
  readonly firmware: ReadonlyMap<string, DeviceFirmware>;
  /** Whether all pages have been read once. */
  readonly complete: boolean;
  readonly error?: Error;
}

const EMPTY: FleetState = { devices: [], firmware: new Map(), complete: false };

/** All devices in order of creation; updated at most once per animation frame. */
export const fleet = signal<FleetState>(EMPTY);

/** A device's display name, else its client id. */
export function nameOf(clientId: string): string {
  return fleet.value.devices.find(({ client_id: id }) => id === clientId)?.name || clientId;
}

/** All tags of devices. */
export function tagsOf(these: readonly DeviceView[]): string[] {
  return [...new Set(these.flatMap(({ tags }) => tags))].sort();
}

let devices = new Map<string, DeviceView>();
let firmware = new Map<string, DeviceFirmware>();
let dirty = new Set<string>();
/** Devices of which only the progress of a download has changed, as happens often. */
let downloading = new Set<string>();
let readAll = true;
let frame = 0;
const reading = new Throttle(read, PAUSE_MS);

/** Keeps `fleet` in sync with the registry from now on. */
export function followFleet(): void {
  onEvent(noteEvent);
  connections.subscribe((count) => {
    if (count > 0) {
      request(true);
    }
  });
  link.subscribe(({ state }) => {
    if (state === "out") {
      reading.stop();
      cancelAnimationFrame(frame);
      devices = new Map();
      firmware = new Map();
      dirty = new Set();
      fleet.value = EMPTY;
    }
  });
}

export function reloadFleet(): void {
  request(true);
}

function noteEvent(event: NamedEvent): void {
  if (event.client_id) {
    noteDevice(event.client_id, event);
  } else if (ABOUT_MANY.has(event.noun)) {
    request(true);
  }
}

function noteDevice(clientId: string, event: NamedEvent): void {
  const known = devices.get(clientId);
  if (known !== undefined && event.noun === "device" && isPresence(event.verb)) {
    devices.set(clientId, { ...known, online: event.verb === "online", presence: event.verb });
    draw();
  }
  const isProgress = event.noun === "firmware" && event.verb === "reported" && event.data.stage === "downloading";
  (isProgress ? downloading : dirty).add(clientId);
  request(false);
}

function isPresence(verb: string): verb is DeviceView["presence"] {
  return verb === "online" || verb === "asleep" || verb === "offline";
}

function request(all: boolean): void {
  readAll ||= all;
  reading.request();
}

async function read(): Promise<void> {
  const changed = dirty;
  const moved = new Set([...dirty, ...downloading]);
  const all = readAll || changed.size > ONE_BY_ONE;
  dirty = new Set();
  downloading = new Set();
  readAll = false;
  try {
    await (all ? readPages() : readEach([...changed]));
    draw(fleet.peek().complete || all);
    await readFirmware([...(all ? devices.keys() : moved)]);
    draw();
  } catch (error) {
    readAll = true;
    if (link.peek().state === "out") {
      return;
    }
    fleet.value = { ...fleet.peek(), error: asError(error) };
  }
}

async function readPages(): Promise<void> {
  const found = new Map<string, DeviceView>();
  let after: number | null = 0;
  while (after !== null) {
    const page: { devices: DeviceView[]; next: number | null } = await ask(DEVICE_LIST, { after, limit: PAGE });
    for (const device of page.devices) {
      found.set(device.client_id, device);
    }
    after = page.next;
    if (!fleet.peek().complete) {
      devices = found;
      draw();
    }
  }
  devices = found;
}

/** New devices are added in the order of their events, whichever answer comes first. */
async function readEach(clientIds: string[]): Promise<void> {
  const found = await Promise.all(clientIds.map(readOne));
  clientIds.forEach((clientId, place) => {
    const device = found[place];
    if (device === undefined) {
      devices.delete(clientId);
    } else {
      devices.set(clientId, device);
    }
  });
}

async function readOne(clientId: string): Promise<DeviceView | undefined> {
  try {
    return await ask(DEVICE_SHOW, { device: clientId });
  } catch (error) {
    if (error instanceof RefusedError && error.code === "not_found") {
      return undefined;
    }
    throw error;
  }
}

/** The list is shown without it if the firmware service does not answer. */
async function readFirmware(clientIds: string[]): Promise<void> {
  const found = new Map(firmware);
  for (let first = 0; first < clientIds.length; first += PAGE) {
    try {
      const page = await ask(FIRMWARE_OF, { devices: clientIds.slice(first, first + PAGE) });
      for (const one of page.devices) {
        found.set(one.client_id, one);
      }
    } catch {
      found.clear();
      break;
    }
  }
  firmware = found;
}

function draw(complete = fleet.peek().complete): void {
  cancelAnimationFrame(frame);
  frame = requestAnimationFrame(() => {
    fleet.value = { devices: [...devices.values()], firmware, complete };
  });
}
