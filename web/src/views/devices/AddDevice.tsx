import { useState } from "preact/hooks";

import { Answered, Dialog, Notice } from "../../components/basics.tsx";
import { OperationForm } from "../../components/form.tsx";
import { href } from "../../lib/router.ts";
import { DEVICE_ADD, type DeviceAdd, type DeviceView, type Models } from "../../protocol.ts";
import { modelOptions, useModels } from "../../state/models.ts";
import { ask } from "../../state/session.ts";
import { PackageButton } from "../device/Secret.tsx";

export function AddDevice({ close }: { close: () => void }) {
  const models = useModels();
  const [added, setAdded] = useState<DeviceView>();
  return (
    <Dialog title="Add device" close={close}>
      {added ? (
        <Added device={added} close={close} />
      ) : (
        <Answered query={models}>
          {(found) =>
            found.models.length === 0 ? (
              <Notice tone="warn">
                No models yet. <a href={href("models")}>Add one</a>, then add devices of it.
              </Notice>
            ) : (
              <Form models={found} onAdded={setAdded} />
            )
          }
        </Answered>
      )}
    </Dialog>
  );
}

function Form({ models, onAdded }: { models: Models; onAdded: (device: DeviceView) => void }) {
  return (
    <OperationForm<DeviceAdd>
      specs={{
        model: { label: "Model", options: modelOptions(models) },
        name: { label: "Name", maxLength: 200, hint: "Display name, such as kitchen-light." },
        tags: { label: "Tags", kind: "words", hint: "Separated by spaces." },
      }}
      verb="Add"
      run={async (asked) => {
        onAdded(await ask(DEVICE_ADD, asked));
        return undefined;
      }}
    />
  );
}

function Added({ device, close }: { device: DeviceView; close: () => void }) {
  return (
    <>
      <Notice tone="good">
        {device.client_id} was added. Its package is a secret: with it, any machine can connect as this device.
      </Notice>
      <footer>
        <PackageButton device={device.client_id} />
        <a class="button primary" href={href("device", device.client_id)} onClick={close}>
          Go to the device
        </a>
      </footer>
    </>
  );
}
