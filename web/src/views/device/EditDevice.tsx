import { useState } from "preact/hooks";

import { Dialog, Notice } from "../../components/basics.tsx";
import { Outcome, TextField } from "../../components/fields.tsx";
import { go } from "../../lib/router.ts";
import { words } from "../../lib/text.ts";
import { DEVICE_REMOVE, DEVICE_UPDATE, type DeviceView } from "../../protocol.ts";
import { useAction } from "../../state/action.ts";
import { ask } from "../../state/session.ts";

/** Renames, tags or removes a device. */
export function EditDevice({ device, close }: { device: DeviceView; close: () => void }) {
  const [removing, setRemoving] = useState(false);
  return removing ? (
    <Remove device={device} close={close} />
  ) : (
    <Edit device={device} close={close} remove={() => setRemoving(true)} />
  );
}

function Edit({ device, close, remove }: { device: DeviceView; close: () => void; remove: () => void }) {
  const action = useAction();
  const onSubmit = (event: SubmitEvent) => {
    event.preventDefault();
    const form = new FormData(event.currentTarget as HTMLFormElement);
    const [name, tags] = [form.get("name"), form.get("tags")] as [string, string];
    void action.run(async () => {
      await ask(DEVICE_UPDATE, { device: device.client_id, name: name.trim(), tags: words(tags) });
      close();
      return undefined;
    });
  };
  return (
    <Dialog title="Edit device" close={close}>
      <form onSubmit={onSubmit}>
        <TextField label="Name" name="name" defaultValue={device.name} maxLength={200} hint="Display name." />
        <TextField label="Tags" name="tags" defaultValue={device.tags.join(" ")} hint="Separated by spaces." />
        <Outcome action={action} />
        <footer>
          <button type="button" class="danger" onClick={remove}>
            Remove device
          </button>
          <button type="submit" class="primary" disabled={action.busy}>
            Save
          </button>
        </footer>
      </form>
    </Dialog>
  );
}

/** Asks for confirmation, as this cannot be undone. */
function Remove({ device, close }: { device: DeviceView; close: () => void }) {
  const action = useAction();
  const remove = () =>
    action.run(async () => {
      await ask(DEVICE_REMOVE, { device: device.client_id });
      go("devices");
      return undefined;
    });
  return (
    <Dialog title="Remove the device?" close={close}>
      <div class="grid">
        <Notice tone="warn">
          {device.client_id} is refused at once, permanently. All of its data except the audit log is deleted.
        </Notice>
        <Outcome action={action} />
        <footer>
          <button type="button" onClick={close}>
            Cancel
          </button>
          <button type="button" class="danger" disabled={action.busy} onClick={remove}>
            Remove permanently
          </button>
        </footer>
      </div>
    </Dialog>
  );
}
