import type { DeviceFirmware, DeviceView } from "../protocol.ts";
import { Badge } from "./basics.tsx";

/** What a device runs, and what is wanted for it if that is something else; `brief` without the reason. */
export function Firmware({
  device,
  firmware,
  brief = false,
}: {
  device: DeviceView;
  firmware: DeviceFirmware | undefined;
  brief?: boolean;
}) {
  const runs = firmware?.runs ?? device.firmware_version ?? "–";
  if (firmware === undefined || firmware.up_to_date) {
    return <>{runs}</>;
  }
  const { wanted, withheld, stage, percent } = firmware;
  const progress = stage === "downloading" && percent !== null ? `${percent} %` : (stage ?? "not offered yet");
  const why = withheld === null ? progress : brief ? "withheld" : `withheld: ${withheld}`;
  return (
    <>
      {runs} <Badge tone={withheld === null ? "busy" : "warn"}>{`→ ${wanted} (${why})`}</Badge>
    </>
  );
}
