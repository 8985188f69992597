import { useState } from "preact/hooks";

import { Answered, Dialog, Notice } from "../components/basics.tsx";
import { Outcome, SelectField, TextField } from "../components/fields.tsx";
import { href } from "../lib/router.ts";
import { words } from "../lib/text.ts";
import { DEVICE_ADD, MODEL_LIST, type DeviceView, type ModelView } from "../protocol.ts";
import { useAction } from "../state/action.ts";
import { useQuery } from "../state/query.ts";
import { ask } from "../state/session.ts";
import { PackageButton } from "./device/Secret.tsx";

export function AddDevice({ close }: { close: () => void }) {
  const models = useQuery("models", () => ask(MODEL_LIST, {}));
  const [added, setAdded] = useState<DeviceView>();
  return (
    <Dialog title="Add device" close={close}>
      {added ? (
        <Added device={added} close={close} />
      ) : (
        <Answered query={models}>
          {({ models: found }) =>
            found.length === 0 ? (
              <Notice tone="warn">
                No device models yet. Add one with <code>mdm model add CODE --chip CHIP</code>, then retry.
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

function Form({ models, onAdded }: { models: readonly ModelView[]; onAdded: (device: DeviceView) => void }) {
  const action = useAction();
  const onSubmit = (event: SubmitEvent) => {
    event.preventDefault();
    const form = new FormData(event.currentTarget as HTMLFormElement);
    const text = (name: string) => (form.get(name) as string).trim();
    const tags = words(text("tags"));
    void action.run(async () => {
      onAdded(await ask(DEVICE_ADD, { model: text("model"), name: text("name"), tags }));
      return undefined;
    });
  };
  return (
    <form onSubmit={onSubmit}>
      <SelectField
        label="Model"
        name="model"
        options={models.map(({ code, name }) => [code, name ? `${code} (${name})` : code])}
      />
      <TextField label="Name" name="name" maxLength={200} hint="Display name, such as kitchen-light." />
      <TextField label="Tags" name="tags" hint="Separated by spaces." />
      <Outcome action={action} />
      <footer>
        <button type="submit" class="primary" disabled={action.busy}>
          {action.busy ? "Adding…" : "Add"}
        </button>
      </footer>
    </form>
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
