import { Panel } from "../../components/basics.tsx";
import { Outcome } from "../../components/fields.tsx";
import { DEVICE_PROVISION } from "../../protocol.ts";
import { useAction } from "../../state/action.ts";
import { ask } from "../../state/session.ts";

/** How a machine becomes this device. */
export function Setup({ device }: { device: string }) {
  return (
    <Panel title="Set up the machine">
      <p>
        The package holds the device's secret: whoever has it is the device. For an ESP32,{" "}
        <code>mdm device provision {device} --output FILE --format nvs</code> writes it as an image for flash, with
        the Wi-Fi's name and password.
      </p>
      <PackageButton device={device} />
    </Panel>
  );
}

export function PackageButton({ device }: { device: string }) {
  const action = useAction();
  const download = () =>
    action.run(async () => {
      const found = await ask(DEVICE_PROVISION, { device });
      save(`${device}.json`, `${JSON.stringify(found, null, 2)}\n`);
      return "The package is saved. Keep it as safe as a password.";
    });
  return (
    <>
      <button type="button" disabled={action.busy} onClick={download}>
        Download package
      </button>
      <Outcome action={action} />
    </>
  );
}

function save(name: string, text: string): void {
  const url = URL.createObjectURL(new Blob([text], { type: "application/json" }));
  const link = Object.assign(document.createElement("a"), { href: url, download: name });
  link.click();
  URL.revokeObjectURL(url);
}
