import { useState } from "preact/hooks";

import { Notice } from "../../components/basics.tsx";
import { ConfirmButton, DialogButton, OperationForm } from "../../components/form.tsx";
import { eachOf, type Tally } from "../../lib/each.ts";
import { plural } from "../../lib/text.ts";
import { COMMAND_SEND, DEVICE_UPDATE, ROTATION_START, type CommandSend, type DeviceView } from "../../protocol.ts";
import { ask } from "../../state/session.ts";

interface Props {
  readonly devices: readonly DeviceView[];
  readonly clear: () => void;
}

/** What can be done with all selected devices, one after another; one that fails stops no other. */
export function Bulk({ devices, clear }: Props) {
  const [tally, setTally] = useState<Tally>();
  const who = plural(devices.length, "device");
  const away = devices.filter(({ presence }) => presence !== "online").length;
  const all = (work: (device: DeviceView) => Promise<unknown>) => {
    void eachOf(devices, work, setTally);
  };
  const act = (work: (device: DeviceView) => Promise<unknown>) => () => {
    all(work);
    return Promise.resolve(undefined);
  };
  const retag = (change: (tags: readonly string[]) => string[]) =>
    all((device) => ask(DEVICE_UPDATE, { device: device.client_id, tags: change(device.tags) }));
  return (
    <div class="bulk" role="group" aria-label="Selected devices">
      <b>{who} selected</b>
      <ConfirmButton
        label="Rotate secrets"
        title={`Rotate the secrets of ${who}?`}
        verb="Start"
        needs={ROTATION_START}
        run={act((device) => ask(ROTATION_START, { device: device.client_id }))}
      >
        Each gets a new secret. {away > 0 && `${away} not online: they wait until they are.`}
      </ConfirmButton>
      <DialogButton label="Send command" title={`Command for ${who}`} needs={COMMAND_SEND}>
        {(close) => (
          <OperationForm<Pick<CommandSend, "name" | "arguments">>
            specs={{
              name: { label: "Command", required: true, placeholder: "reboot" },
              arguments: {
                label: "Arguments",
                kind: "line",
                placeholder: "{}",
                hint: "A JSON object; may be empty.",
              },
            }}
            verb={`Send to ${who}`}
            run={(asked) => {
              all((device) => ask(COMMAND_SEND, { ...asked, device: device.client_id }));
              close();
              return Promise.resolve(undefined);
            }}
          />
        )}
      </DialogButton>
      <DialogButton label="Tags" title={`Tags of ${who}`} needs={DEVICE_UPDATE}>
        {(close) => (
          <OperationForm<{ add: string[]; remove: string[] }>
            specs={{
              add: { label: "Add tags", kind: "words", empty: [] },
              remove: { label: "Remove tags", kind: "words", empty: [] },
            }}
            verb={`Change ${who}`}
            run={({ add, remove }) => {
              retag((tags) => [...new Set([...tags, ...add])].filter((tag) => !remove.includes(tag)));
              close();
              return Promise.resolve(undefined);
            }}
          />
        )}
      </DialogButton>
      <ConfirmButton
        label="Disable"
        title={`Disable ${who}?`}
        verb="Disable"
        tone="danger"
        needs={DEVICE_UPDATE}
        run={act((device) => ask(DEVICE_UPDATE, { device: device.client_id, enabled: false }))}
      >
        Their connections are ended, and Keycloak and the broker refuse them until they are enabled again.
      </ConfirmButton>
      <ConfirmButton
        label="Enable"
        title={`Enable ${who}?`}
        verb="Enable"
        needs={DEVICE_UPDATE}
        run={act((device) => ask(DEVICE_UPDATE, { device: device.client_id, enabled: true }))}
      >
        Those that are enabled stay so.
      </ConfirmButton>
      <button type="button" class="plain" onClick={clear}>
        Clear selection
      </button>
      {tally && <Progress tally={tally} />}
    </div>
  );
}

function Progress({ tally: { done, whole, failed } }: { tally: Tally }) {
  if (done < whole) {
    return (
      <div class="progress">
        <progress aria-label="Progress" value={done / whole} />
        <span role="status">
          {done} of {whole}
        </span>
      </div>
    );
  }
  return (
    <Notice tone={failed.length > 0 ? "warn" : "good"}>
      <span>
        Done for {plural(whole - failed.length, "device")}.
        {failed.length > 0 && ` Refused for ${plural(failed.length, "device")}:`}
      </span>
      {failed.length > 0 && (
        <ul>
          {failed.slice(0, 10).map(({ name, reason }) => (
            <li key={name}>
              {name}: {reason}
            </li>
          ))}
          {failed.length > 10 && <li>and {failed.length - 10} more</li>}
        </ul>
      )}
    </Notice>
  );
}
