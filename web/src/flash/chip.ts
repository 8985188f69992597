import { md5 } from "@noble/hashes/legacy.js";
import { bytesToHex } from "@noble/hashes/utils.js";
import { ESPLoader, Transport } from "esptool-js";

import { restart } from "./console.ts";
import { TABLE_BYTES, TABLE_OFFSET, parseTable, type Part, type Partition } from "./partitions.ts";

/** The baud rate of a chip's ROM after a reset. */
const ROM_BAUD = 115_200;
const DIGEST_TIMEOUT_MS = 3_000;
const MAGIC = 0xe9;
const CHIP_ID_OFFSET = 12;

/** The image is for another chip. */
export class WrongChipError extends Error {
  override name = "WrongChipError";
}

/** A chip at a serial port, in bootloader mode until `close`. */
export class Chip {
  private constructor(
    private readonly port: SerialPort,
    private readonly loader: ESPLoader,
    private readonly transport: Transport,
    private readonly baudRate: number,
  ) {}

  /** Resets the chip at a port into its bootloader and detects its type. */
  static async connect(port: SerialPort, baudRate: number, log: (text: string) => void): Promise<Chip> {
    const transport = new Transport(port);
    const loader = new ESPLoader({
      transport,
      baudrate: baudRate,
      romBaudrate: ROM_BAUD,
      terminal: { clean: () => undefined, write: log, writeLine: (line) => log(`${line}\n`) },
    });
    const chip = new Chip(port, loader, transport, baudRate);
    try {
      await loader.detectChip();
    } catch (error) {
      await chip.abandon();
      throw error;
    }
    return chip;
  }

  get name(): string {
    return this.loader.chip.CHIP_NAME;
  }

  /** Throws a WrongChipError if the header of an application image is for another chip. */
  mustBeFor(image: Uint8Array, chip: string): void {
    const id =
      image[0] === MAGIC ? new DataView(image.buffer, image.byteOffset).getUint16(CHIP_ID_OFFSET, true) : -1;
    if (id !== this.loader.chip.IMAGE_CHIP_ID) {
      throw new WrongChipError(`This chip is an ${this.name}, but the image is for ${chip}. Nothing was written.`);
    }
  }

  /** Starts the flasher stub on the chip. */
  async prepare(): Promise<void> {
    const { loader } = this;
    if (loader.secureDownloadMode) {
      throw new Error("The chip is in secure download mode and can only be flashed with esptool.");
    }
    await loader.chip.postConnect?.(loader);
    await loader.runStub();
    if (!loader.IS_STUB) {
      throw new Error(`An ${this.name} can only be flashed with esptool.`);
    }
    if (this.baudRate !== ROM_BAUD) {
      await loader.changeBaud();
    }
  }

  /** Reads the partition table; throws an Error if there is none. */
  async readTable(): Promise<Partition[]> {
    const { loader } = this;
    const table = await loader.readFlash(TABLE_OFFSET, TABLE_BYTES);
    // The library does not read the digest that follows the data.
    const digest = await this.transport.read(DIGEST_TIMEOUT_MS);
    if (bytesToHex(digest) !== digestOf(table)) {
      throw new Error("The partition table was read with errors. Select a lower speed.");
    }
    return parseTable(table);
  }

  /** Writes and verifies all parts; `progress` is called with the written share, 0 to 1. */
  async write(parts: readonly Part[], progress: (share: number) => void): Promise<void> {
    const sizes = parts.map(({ data }) => data.length);
    const all = sum(sizes);
    await this.loader.writeFlash({
      fileArray: [...parts],
      // Images are written unchanged, as their hashes are checked.
      flashMode: "keep",
      flashFreq: "keep",
      flashSize: "keep",
      eraseAll: false,
      compress: true,
      calculateMD5Hash: digestOf,
      reportProgress: (index, written, total) => {
        progress((sum(sizes.slice(0, index)) + (sizes[index] ?? 0) * (written / total)) / all);
      },
    });
  }

  /** Restarts the chip and closes the port. */
  async abandon(): Promise<void> {
    try {
      await restart(this.port);
    } catch {
      // The port was never opened, or is lost.
    }
    await this.close();
  }

  /** Closes the port; the chip stays in its mode until it is restarted. */
  async close(): Promise<void> {
    try {
      await this.transport.disconnect();
    } catch {
      // The port was never opened, or is lost: there is nothing to close.
    }
  }
}

function digestOf(data: Uint8Array): string {
  return bytesToHex(md5(data));
}

function sum(numbers: readonly number[]): number {
  return numbers.reduce((total, each) => total + each, 0);
}
