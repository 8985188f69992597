import type { ComponentChildren } from "preact";

import { Panel } from "../../components/basics.tsx";
import { Button } from "../../components/Button.tsx";
import { Outcome } from "../../components/fields.tsx";
import { esptoolCommand, fetchImage, fetchNvs, imageName, nvsName, save } from "../../flash/files.ts";
import { isRight, numberOf, nvsOf, wholeFile, type Plan } from "../../flash/plan.ts";
import { DEVICE_NVS, IMAGE_READ, type ImageView } from "../../protocol.ts";
import { useAction } from "../../state/action.ts";

interface Props {
  readonly device: string;
  readonly plan: Plan;
  readonly image: ImageView | undefined;
  /** The plan's fields, if the browser cannot flash. */
  readonly fields?: ComponentChildren;
}

/** The files of a plan, and the command that flashes them. */
export function Files({ fields, ...props }: Props) {
  return fields === undefined ? (
    <details class="panel">
      <summary>Flash with esptool instead</summary>
      <Ways {...props} />
    </details>
  ) : (
    <Panel title="Flash with esptool">
      {fields}
      <Ways {...props} />
    </Panel>
  );
}

function Ways({ device, plan, image }: Omit<Props, "fields">) {
  const action = useAction();
  const nvs = nvsOf(plan, device);
  const whole = wholeFile(plan);
  const files = [
    ...(whole ? [{ name: whole.name, address: 0 }] : []),
    ...(image ? [{ name: imageName(image), address: numberOf(plan.appAddress) }] : []),
    ...(nvs ? [{ name: nvsName(device), address: numberOf(plan.nvsAddress) }] : []),
  ];
  const saveAs = (name: string, bytes: () => Promise<Uint8Array>) =>
    action.run(async () => {
      save(name, await bytes());
      return `${name} was saved.`;
    });
  return (
    <div class="grid">
      <p class="buttons">
        {image && (
          <Button
            needs={IMAGE_READ}
            disabled={action.busy}
            onClick={() => saveAs(imageName(image), () => fetchImage(image, () => undefined))}
          >
            Download image
          </Button>
        )}
        {nvs && (
          <Button
            needs={DEVICE_NVS}
            disabled={action.busy || !isRight(plan)}
            onClick={() => saveAs(nvsName(device), () => fetchNvs(nvs))}
          >
            Download NVS image
          </Button>
        )}
      </p>
      {files.length > 0 && isRight(plan) && (
        <pre class="command">
          <code>{esptoolCommand(image?.chip, numberOf(plan.baudRate), files)}</code>
        </pre>
      )}
      {nvs && <p>The NVS image contains the device&apos;s secret. Delete it after flashing.</p>}
      <Outcome action={action} />
    </div>
  );
}
