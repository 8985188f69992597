import { DEVICE_NVS, IMAGE_READ, type DeviceNvs, type ImageView } from "../protocol.ts";
import { ask } from "../state/session.ts";
import { hex } from "./partitions.ts";

/** A file to flash at an address, as an argument of esptool. */
export interface FileAt {
  readonly name: string;
  readonly address: number;
}

/** Reads an image; `progress` is called with the read share, 0 to 1. Throws an Error if its hash does not match. */
export async function fetchImage(image: ImageView, progress: (share: number) => void): Promise<Uint8Array> {
  const whole = new Uint8Array(image.size_bytes);
  for (let offset = 0; offset < whole.length;) {
    const piece = bytesOf((await ask(IMAGE_READ, { sha256: image.sha256, offset })).data);
    whole.set(piece, offset);
    offset += piece.length;
    progress(offset / whole.length);
  }
  const [{ sha256 }, { bytesToHex }] = await Promise.all([
    import("@noble/hashes/sha2.js"),
    import("@noble/hashes/utils.js"),
  ]);
  if (bytesToHex(sha256(whole)) !== image.sha256) {
    throw new Error(`The stored image ${image.model} ${image.version} is damaged: its hash does not match.`);
  }
  return whole;
}

export async function fetchNvs(wanted: DeviceNvs): Promise<Uint8Array> {
  return bytesOf((await ask(DEVICE_NVS, wanted)).data);
}

export function imageName({ model, version }: ImageView): string {
  return `${plain(`${model}-${version}`)}.bin`;
}

export function nvsName(device: string): string {
  return `${plain(device)}-nvs.bin`;
}

/** The command that flashes the same files with Espressif's esptool. */
export function esptoolCommand(chip: string | undefined, baudRate: number, files: readonly FileAt[]): string {
  const which = chip === undefined ? "" : ` --chip ${chip}`;
  const what = files.map(({ name, address }) => `${hex(address)} ${name}`).join(" ");
  return `esptool${which} --baud ${baudRate} write-flash ${what}`;
}

/** Downloads a file in the browser. */
export function save(name: string, content: string | Uint8Array, type = "application/octet-stream"): void {
  const url = URL.createObjectURL(new Blob([content as BlobPart], { type }));
  const link = Object.assign(document.createElement("a"), { href: url, download: name });
  link.click();
  URL.revokeObjectURL(url);
}

export function bytesOf(base64: string): Uint8Array {
  return Uint8Array.from(atob(base64), (character) => character.charCodeAt(0));
}

/** A name that is safe in shells and file systems. */
function plain(name: string): string {
  return name.replace(/[^A-Za-z0-9._-]+/g, "-");
}
