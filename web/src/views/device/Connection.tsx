import { useState } from "preact/hooks";

import { Ago, Answered, Badge, Facts, Panel, Table } from "../../components/basics.tsx";
import { Button } from "../../components/Button.tsx";
import { Outcome } from "../../components/fields.tsx";
import { PROGRESS_TONES, progressOf, refusalOf, valueText } from "../../lib/connections.ts";
import {
  CONNECTION_SET,
  CONNECTION_RETRY,
  CONNECTION_SHOW,
  type ConnectionView,
  type DeviceConnectionView,
} from "../../protocol.ts";
import { useAction } from "../../state/action.ts";
import { useQuery } from "../../state/query.ts";
import { ask } from "../../state/session.ts";
import { ChangeConnection } from "../connection/ChangeConnection.tsx";

/** The connection profile that is wanted for a device, and what the device has. */
export function Connection({ device }: { device: string }) {
  const [changing, setChanging] = useState(false);
  const action = useAction();
  const query = useQuery(
    `connection ${device}`,
    () => ask(CONNECTION_SHOW, { device }),
    ({ client_id: about, noun }) => noun === "connection" && (about === device || !about),
  );
  const retry = () =>
    action.run(async () => {
      await ask(CONNECTION_RETRY, { device });
      query.refresh();
      return "The device is sent the wanted profile again, when it is online.";
    });
  return (
    <Panel
      title="Connection profile"
      actions={
        <div class="buttons">
          <Button needs={CONNECTION_SET} onClick={() => setChanging(true)}>
            Change profile
          </Button>
          <Button needs={CONNECTION_RETRY} disabled={action.busy} onClick={retry}>
            Send again
          </Button>
        </div>
      }
    >
      <Outcome action={action} />
      <Answered query={query}>
        {(view) => (
          <>
            {view.device && <Facts facts={factsOf(view, view.device)} />}
            <Values view={view} />
          </>
        )}
      </Answered>
      {changing && (
        <ChangeConnection
          target={{ device }}
          close={() => setChanging(false)}
          saved={(done) => action.run(() => Promise.resolve(done))}
        />
      )}
    </Panel>
  );
}

function factsOf(view: ConnectionView, device: DeviceConnectionView) {
  return [
    ["Progress", <Badge tone={PROGRESS_TONES[device.progress]}>{device.progress}</Badge>],
    ["In use", progressOf(device)],
    ["Wanted", device.wanted],
    ["Fallback", device.fallback ?? "–"],
    ...(device.refused_id ? ([["Refused", `${device.refused_id}, ${refusalOf(device)}`]] as const) : []),
    ["Trial", `${view.trial_seconds} s`],
    ["Last sent", <Ago at={device.sent_at} />],
    ["Reported", <Ago at={device.reported_at} />],
  ] as const;
}

/** The values of a wanted profile, with the layer that each is from. */
function Values({ view }: { view: ConnectionView }) {
  return (
    <Table label="Values of the profile" head={["Field", "Value", "From"]}>
      {view.values.map((value) => (
        <tr key={value.field}>
          <th scope="row">{value.field}</th>
          <td>{valueText(value, view)}</td>
          <td>{value.source === "settings" ? value.source : `${value.source} (layer ${value.number})`}</td>
        </tr>
      ))}
    </Table>
  );
}
