import { Dialog, Notice } from "../../components/basics.tsx";
import { ConfirmButton, OperationForm } from "../../components/form.tsx";
import { go } from "../../lib/router.ts";
import { DEVICE_REMOVE, DEVICE_UPDATE, type DeviceUpdate, type DeviceView } from "../../protocol.ts";
import { ask } from "../../state/session.ts";

/** Renames, tags or removes a device. */
export function EditDevice({ device, close }: { device: DeviceView; close: () => void }) {
  const { client_id: id, name, tags } = device;
  return (
    <Dialog title="Edit device" close={close}>
      <OperationForm<Omit<DeviceUpdate, "device">>
        specs={{
          name: { label: "Name", initial: name, empty: "", maxLength: 200, hint: "Display name." },
          tags: { label: "Tags", kind: "words", initial: tags, empty: [], hint: "Separated by spaces." },
        }}
        verb="Save"
        run={async (asked) => {
          await ask(DEVICE_UPDATE, { ...asked, device: id });
          close();
          return undefined;
        }}
      />
      <ConfirmButton
        label="Remove device"
        title="Remove the device?"
        verb="Remove permanently"
        tone="danger"
        needs={DEVICE_REMOVE}
        run={async () => {
          await ask(DEVICE_REMOVE, { device: id });
          go("devices");
          return undefined;
        }}
      >
        <Notice tone="warn">
          {id} is refused at once, permanently. All of its data except the audit log is deleted.
        </Notice>
      </ConfirmButton>
    </Dialog>
  );
}
