import { useState } from "preact/hooks";

import { Answered, Notice } from "../../components/basics.tsx";
import { DEFAULT_PLAN, type Plan } from "../../flash/plan.ts";
import { IMAGE_LIST, type DeviceView, type ImageView } from "../../protocol.ts";
import { useQuery } from "../../state/query.ts";
import { ask } from "../../state/session.ts";
import { Files } from "./Files.tsx";
import { Flash } from "./Flash.tsx";
import { PlanFields } from "./PlanFields.tsx";
import { Secret } from "./Secret.tsx";

/** Provisioning of this device: flashed from the browser, from files, or by its package. */
export function Setup({ device }: { device: DeviceView }) {
  const images = useQuery(
    `images of ${device.model}`,
    () => ask(IMAGE_LIST, { model: device.model }),
    ({ noun }) => noun === "firmware",
  );
  return (
    <>
      {device.last_seen_at && (
        <Notice tone="warn">
          A machine already runs as this device. Flash that machine. To use another one, renew the secret first, or
          both connect as this device.
        </Notice>
      )}
      <Answered query={images}>{(found) => <Ways device={device} images={found.images} />}</Answered>
      <Secret device={device.client_id} />
    </>
  );
}

function Ways({ device, images }: { device: DeviceView; images: readonly ImageView[] }) {
  const [plan, setPlan] = useState<Plan>({
    ...DEFAULT_PLAN,
    image: images.find(({ current }) => current)?.sha256 ?? "",
  });
  const image = images.find(({ sha256 }) => sha256 === plan.image);
  const fields = <PlanFields plan={plan} images={images} change={(part) => setPlan({ ...plan, ...part })} />;
  const hasSerial = "serial" in navigator;
  return (
    <>
      {hasSerial ? (
        <Flash device={device.client_id} plan={plan} image={image} fields={fields} />
      ) : (
        <Notice tone="warn">
          This browser cannot flash, as it does not support Web Serial. Chrome, Edge and Opera on a computer do, on
          pages loaded over HTTPS. Below are the files and the command that flashes them.
        </Notice>
      )}
      <Files device={device.client_id} plan={plan} image={image} fields={hasSerial ? undefined : fields} />
    </>
  );
}
