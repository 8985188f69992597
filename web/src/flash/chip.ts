import { md5 } from "@noble/hashes/legacy.js";
import { bytesToHex } from "@noble/hashes/utils.js";
import { ESPLoader, Transport } from "esptool-js";

import { restart } from "./console.ts";
import { TABLE_BYTES, TABLE_OFFSET, parseTable, type Part, type Partition } from "./partitions.ts";

/** The speed of a chip's ROM after a reset. */
const ROM_BAUD = 115_200;
const DIGEST_TIMEOUT_MS = 3_000;
const MAGIC = 0xe9;
const CHIP_ID_OFFSET = 12;

/** The chip is another one than the image is for. */
export class WrongChipError extends Error {
  override name = "WrongChipError";
}

/** A chip at a serial port, in the mode in which its flash can be written, until `close`. */
export class Chip {
  private constructor(
    private readonly port: SerialPort,
    private readonly loader: ESPLoader,
    private readonly transport: Transport,
    private readonly baudRate: number,
  ) {}

  /** Resets what is at a port into its bootloader and asks it which chip it is. */
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

  /** Throws a WrongChipError if an application image is for another chip, as its header says. */
  mustBeFor(image: Uint8Array, chip: string): void {
    const id =
      image[0] === MAGIC ? new DataView(image.buffer, image.byteOffset).getUint16(CHIP_ID_OFFSET, true) : -1;
    if (id !== this.loader.chip.IMAGE_CHIP_ID) {
      throw new WrongChipError(`This chip is an ${this.name}, and the image is for ${chip}. Nothing was written.`);
    }
  }

  /** Starts the program that writes flash, and reads the chip's partition table with it. */
  async prepare(): Promise<Partition[]> {
    const { loader } = this;
    if (loader.secureDownloadMode) {
      throw new Error("The chip is in secure download mode: it can be flashed with esptool only.");
    }
    await loader.chip.postConnect?.(loader);
    await loader.runStub();
    if (!loader.IS_STUB) {
      throw new Error(`Flashing an ${this.name} works with esptool only.`);
    }
    if (this.baudRate !== ROM_BAUD) {
      await loader.changeBaud();
    }
    const table = await loader.readFlash(TABLE_OFFSET, TABLE_BYTES);
    // The library leaves the digest that follows the data to whoever reads next.
    const digest = await this.transport.read(DIGEST_TIMEOUT_MS);
    if (bytesToHex(digest) !== digestOf(table)) {
      throw new Error("The partition table was not read as the chip has it. Try a lower speed.");
    }
    return parseTable(table);
  }

  /** Writes and compares all parts; `progress` gets how much of all is written, 0 to 1. */
  async write(parts: readonly Part[], progress: (share: number) => void): Promise<void> {
    const sizes = parts.map(({ data }) => data.length);
    const all = sum(sizes);
    await this.loader.writeFlash({
      fileArray: [...parts],
      // Images are written as they are: their hashes count.
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

  /** Has the chip start what is in its flash, and leaves the port. */
  async abandon(): Promise<void> {
    try {
      await restart(this.port);
    } catch {
      // The port was never opened, or is lost.
    }
    await this.close();
  }

  /** Leaves the port to others; the chip stays as it is until it is restarted. */
  async close(): Promise<void> {
    try {
      await this.transport.disconnect();
    } catch {
      // The port was never opened, or is lost: there is nothing to leave.
    }
  }
}

function digestOf(data: Uint8Array): string {
  return bytesToHex(md5(data));
}

function sum(numbers: readonly number[]): number {
  return numbers.reduce((total, each) => total + each, 0);
}
