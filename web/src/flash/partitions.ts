/** Offset and maximum size of the partition table in ESP-IDF. */
export const TABLE_OFFSET = 0x8000;
export const TABLE_BYTES = 0xc00;

const ENTRY_BYTES = 32;
const ENTRY_MAGIC = 0x50aa;
const APP = 0x00;
const DATA = 0x01;
const FACTORY = 0x00;
const FIRST_SLOT = 0x10;
const OTA_DATA = 0x00;
const NVS = 0x02;
const OWN_NVS = "mdm";

export interface Partition {
  readonly name: string;
  readonly type: number;
  readonly subtype: number;
  readonly offset: number;
  readonly size: number;
}

export interface Part {
  readonly address: number;
  readonly data: Uint8Array;
}

/** The entries of a partition table, up to its end; throws an Error if there are none. Source: gen_esp32part.py. */
export function parseTable(table: Uint8Array): Partition[] {
  const view = new DataView(table.buffer, table.byteOffset, table.byteLength);
  const found: Partition[] = [];
  for (let at = 0; at + ENTRY_BYTES <= table.length; at += ENTRY_BYTES) {
    if (view.getUint16(at, true) !== ENTRY_MAGIC) {
      break;
    }
    const [name = ""] = new TextDecoder().decode(table.subarray(at + 12, at + 28)).split("\0");
    found.push({
      name,
      type: view.getUint8(at + 2),
      subtype: view.getUint8(at + 3),
      offset: view.getUint32(at + 4, true),
      size: view.getUint32(at + 8, true),
    });
  }
  if (found.length === 0) {
    throw new Error(
      `The chip has no partition table at ${hex(TABLE_OFFSET)}. Flash the bootloader and the partition table of your project once, for example with idf.py flash, then retry.`,
    );
  }
  return found;
}

/**
 * The parts to write so that the chip starts an image at an address; throws an Error if its table does not match.
 *
 * A chip that was updated over the air stores which image to start: that partition is erased.
 */
export function appParts(table: readonly Partition[], address: number, image: Uint8Array): Part[] {
  const apps = table.filter(({ type }) => type === APP);
  const first =
    apps.find(({ subtype }) => subtype === FACTORY) ?? apps.find(({ subtype }) => subtype === FIRST_SLOT);
  if (first?.offset !== address) {
    throw new Error(
      `The chip starts the app at ${first ? hex(first.offset) : "no address"}, not at ${hex(address)}: its partition table has ${listed(apps)}. Set the app address accordingly.`,
    );
  }
  if (first.size < image.length) {
    throw new Error(
      `The image has ${image.length} bytes, but the chip's app partition ${first.name} only has ${first.size}.`,
    );
  }
  return [{ address, data: image }, ...erasedChoices(table)];
}

/** What makes a chip forget which image it chose over the air. */
function erasedChoices(table: readonly Partition[]): Part[] {
  return table
    .filter(({ type, subtype }) => type === DATA && subtype === OTA_DATA)
    .map(({ offset, size }) => ({ address: offset, data: new Uint8Array(size).fill(0xff) }));
}

/** A merged flash image: its partition table, the application that starts, and what to write. */
export interface Whole {
  readonly table: readonly Partition[];
  readonly application: Uint8Array;
  readonly parts: readonly Part[];
}

/** Reads a merged flash image, as `esptool merge-bin` writes it; throws an Error if a file is none. */
export function wholeOf(data: Uint8Array): Whole {
  let table: Partition[] = [];
  try {
    table = parseTable(data.subarray(TABLE_OFFSET, TABLE_OFFSET + TABLE_BYTES));
  } catch {
    // said below
  }
  const apps = table.filter(({ type }) => type === APP);
  const first = apps.find(({ subtype }) => subtype === FACTORY) ?? apps[0];
  if (first === undefined || first.offset >= data.length) {
    throw new Error(
      `The file is no merged flash image: there is no partition table at ${hex(TABLE_OFFSET)}, or no app where it says. Make one with esptool merge-bin.`,
    );
  }
  return {
    table,
    application: data.subarray(first.offset),
    parts: [{ address: 0, data }, ...erasedChoices(table).filter(({ address }) => address >= data.length)],
  };
}

/** The place of an NVS partition. */
export interface Place {
  readonly address: number;
  readonly sizeBytes: number;
}

/**
 * Where the chip's table has the device's identity: the NVS named `mdm`, which the libraries use, else the one wanted;
 * throws an Error if there is none such: old pages after a shorter one would be read as part of it. In a blank board
 * any will do.
 */
export function nvsPlace(table: readonly Partition[], wanted: Place | undefined): Place {
  const stores = table.filter(({ type, subtype }) => type === DATA && subtype === NVS);
  const own = stores.find(({ name }) => name === OWN_NVS) ?? (wanted === undefined ? stores[0] : undefined);
  if (own !== undefined) {
    return { address: own.offset, sizeBytes: own.size };
  }
  if (wanted === undefined) {
    throw new Error("The file's partition table has no NVS, which the device's secret needs.");
  }
  if (!stores.some(({ offset, size }) => offset === wanted.address && size === wanted.sizeBytes)) {
    throw new Error(
      `The chip's partition table has no NVS at ${hex(wanted.address)} with ${hex(wanted.sizeBytes)} bytes, but ${listed(stores)}. Set NVS address and size accordingly.`,
    );
  }
  return wanted;
}

export function hex(value: number): string {
  return `0x${value.toString(16)}`;
}

function listed(partitions: readonly Partition[]): string {
  return (
    partitions.map(({ name, offset, size }) => `${name} at ${hex(offset)} (${hex(size)} bytes)`).join(", ") ||
    "none"
  );
}
