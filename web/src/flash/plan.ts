import type { DeviceNvs } from "../protocol.ts";
import { hex } from "./partitions.ts";

const PAGE_BYTES = 0x1000;
const MIN_NVS_BYTES = 0x3000;
const MAX_NVS_BYTES = 0x4_0000;

/** What to flash, as entered; addresses and sizes are decimal or start with 0x. */
export interface Plan {
  /** The SHA-256 of an image, FROM_FILE, or empty to keep the application. */
  readonly image: string;
  /** The whole flash of a blank board: bootloader, partition table and application in one, from its first byte. */
  readonly whole?: File;
  readonly provision: boolean;
  readonly ssid: string;
  readonly password: string;
  readonly appAddress: string;
  readonly nvsAddress: string;
  readonly nvsSize: string;
  readonly baudRate: string;
}

export const FROM_FILE = "file";

/** Addresses in the default partition tables of ESP-IDF. */
export const DEFAULT_PLAN: Plan = {
  image: "",
  provision: true,
  ssid: "",
  password: "",
  appAddress: "0x10000",
  nvsAddress: "0x9000",
  nvsSize: "0x6000",
  baudRate: "460800",
};

export const BAUD_RATES = ["115200", "230400", "460800", "921600"] as const;

/** The errors of the plan, by field. */
export function problemsOf({ appAddress, nvsAddress, nvsSize }: Plan): Partial<Record<keyof Plan, string>> {
  const size = numberOf(nvsSize);
  return {
    ...addressProblem("appAddress", appAddress),
    ...addressProblem("nvsAddress", nvsAddress),
    ...(size % PAGE_BYTES !== 0 || size < MIN_NVS_BYTES || size > MAX_NVS_BYTES
      ? {
          nvsSize: `Must be a multiple of ${hex(PAGE_BYTES)} from ${hex(MIN_NVS_BYTES)} to ${hex(MAX_NVS_BYTES)}.`,
        }
      : {}),
  };
}

/** The file of the plan's whole flash, if that is what it flashes. */
export function wholeFile({ image, whole }: Plan): File | undefined {
  return image === FROM_FILE ? whole : undefined;
}

/** Whether the plan has something to flash and no errors. */
export function isRight(plan: Plan): boolean {
  const isWhole = plan.image === FROM_FILE ? plan.whole !== undefined : plan.image !== "" || plan.provision;
  return isWhole && Object.keys(problemsOf(plan)).length === 0;
}

/** The request for the plan's NVS image, if it includes one. */
export function nvsOf(plan: Plan, device: string): DeviceNvs | undefined {
  if (!plan.provision) {
    return undefined;
  }
  const wifi = { wifi_ssid: plan.ssid, wifi_password: plan.password };
  return { device, size_bytes: numberOf(plan.nvsSize), ...(plan.ssid || plan.password ? wifi : {}) };
}

export function numberOf(text: string): number {
  return /^(0x[0-9a-f]+|[0-9]+)$/i.test(text.trim()) ? Number(text) : NaN;
}

function addressProblem(name: keyof Plan, text: string): Partial<Record<keyof Plan, string>> {
  return numberOf(text) % PAGE_BYTES === 0
    ? {}
    : { [name]: `Must be a multiple of ${hex(PAGE_BYTES)}, such as 0x10000.` };
}
