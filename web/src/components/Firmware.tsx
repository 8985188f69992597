import type { DeviceFirmware, DeviceView } from "../protocol.ts";
import { Badge, type Tone } from "./basics.tsx";

/** What a device runs, and what is wanted for it if that is something else, without the reason. */
export function Firmware({ device, firmware }: { device: DeviceView; firmware: DeviceFirmware | undefined }) {
  const runs = runsOf(device, firmware);
  if (firmware === undefined || firmware.up_to_date) {
    return <>{runs}</>;
  }
  const state = firmware.withheld === null ? progressOf(firmware) : "withheld";
  return (
    <>
      {runs} <Badge tone={toneOf(firmware)}>{`→ ${firmware.wanted} (${state})`}</Badge>
    </>
  );
}

export function runsOf(device: DeviceView, firmware: DeviceFirmware | undefined): string {
  return firmware?.runs ?? device.firmware_version ?? "–";
}

/** How far a device is with the image that it should have, or why it does not get it. */
export function progressOf({ up_to_date: isDone, wanted, withheld, stage, percent }: DeviceFirmware): string {
  if (isDone) {
    return wanted === null ? "none released" : "as wanted";
  }
  if (withheld !== null) {
    return `withheld: ${withheld}`;
  }
  return stage === "downloading" && percent !== null ? `${percent} %` : (stage ?? "not offered yet");
}

export function toneOf({ up_to_date: isDone, wanted, withheld }: DeviceFirmware): Tone {
  if (isDone) {
    return wanted === null ? "calm" : "good";
  }
  return withheld === null ? "busy" : "warn";
}
