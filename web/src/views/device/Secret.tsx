import { useState } from "preact/hooks";

import { Dialog, Panel } from "../../components/basics.tsx";
import { Button } from "../../components/Button.tsx";
import { Outcome } from "../../components/fields.tsx";
import { save } from "../../flash/files.ts";
import { DEVICE_PROVISION, DEVICE_REISSUE } from "../../protocol.ts";
import { useAction } from "../../state/action.ts";
import { ask } from "../../state/session.ts";

/** The device's package, and renewal of its secret. */
export function Secret({ device }: { device: string }) {
  const [renewing, setRenewing] = useState(false);
  return (
    <Panel title="Package and secret">
      <p>The package contains the device&apos;s secret: with it, any machine can connect as the device.</p>
      <footer>
        <Button needs={DEVICE_REISSUE} class="danger" onClick={() => setRenewing(true)}>
          Renew secret
        </Button>
        <PackageButton device={device} />
      </footer>
      {renewing && <Renew device={device} close={() => setRenewing(false)} />}
    </Panel>
  );
}

/** Asks for confirmation, as this locks out a machine that runs as this device. */
function Renew({ device, close }: { device: string; close: () => void }) {
  const action = useAction();
  const renew = () =>
    action.run(async () => {
      const { secret_generation: generation } = await ask(DEVICE_REISSUE, { device });
      return `Secret ${generation} is now valid. Flash the machine with it.`;
    });
  return (
    <Dialog title="Renew the secret?" close={close}>
      <div class="grid">
        <p>
          The current secret becomes invalid at once. A machine that runs as this device is locked out until it is
          flashed with the new one. Renew the secret if the machine is lost, if others may have seen the package,
          or if Keycloak has lost the device.
        </p>
        <Outcome action={action} />
      </div>
      <footer>
        {action.done ? (
          <button type="button" class="primary" onClick={close}>
            Done
          </button>
        ) : (
          <button type="button" class="danger" disabled={action.busy} onClick={renew}>
            Renew and lock out the machine
          </button>
        )}
      </footer>
    </Dialog>
  );
}

export function PackageButton({ device }: { device: string }) {
  const action = useAction();
  const download = () =>
    action.run(async () => {
      const found = await ask(DEVICE_PROVISION, { device });
      save(`${device}.json`, `${JSON.stringify(found, null, 2)}\n`, "application/json");
      return "The package was saved. Protect it like a password.";
    });
  return (
    <>
      <Button needs={DEVICE_PROVISION} disabled={action.busy} onClick={download}>
        Download package
      </Button>
      <Outcome action={action} />
    </>
  );
}
