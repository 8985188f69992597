import { HEALTH_TONES } from "../lib/census.ts";
import type { DeviceView } from "../protocol.ts";
import { Ago, Badge } from "./basics.tsx";

/** A device's health and its reasons: with `brief` their names only. */
export function Health({ device, brief = false }: { device: DeviceView; brief?: boolean }) {
  const reasons = device.health_reasons;
  return (
    <>
      <Badge tone={HEALTH_TONES[device.health]}>{words(device.health)}</Badge>
      {brief
        ? reasons.length > 0 && <small>{reasons.map(({ reason }) => words(reason)).join(", ")}</small>
        : reasons.map(({ reason, since, detail }) => (
            <div key={reason}>
              {words(reason)} <small>{detail}</small>{" "}
              <small>
                since <Ago at={since} />
              </small>
            </div>
          ))}
    </>
  );
}

/** When a device was last connected: now, if it is. */
export function LastSeen({ device }: { device: DeviceView }) {
  return device.online ? <>now</> : <Ago at={device.last_seen_at} />;
}

function words(name: string): string {
  return name.replaceAll("_", " ");
}
