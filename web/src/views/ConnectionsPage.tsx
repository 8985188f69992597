import { useState } from "preact/hooks";

import { Answered, Empty, Panel, Table } from "../components/basics.tsx";
import { Button } from "../components/Button.tsx";
import { Outcome, SelectField, TextField } from "../components/fields.tsx";
import { conclusions, placeOf } from "../lib/connections.ts";
import { plural } from "../lib/text.ts";
import {
  CONNECTION_RETRY,
  CONNECTION_SET,
  CONNECTION_STATUS,
  type ConnectionStatus,
  type ConnectionTarget,
} from "../protocol.ts";
import { useAction } from "../state/action.ts";
import { useQuery } from "../state/query.ts";
import { ask } from "../state/session.ts";
import { ChangeConnection } from "./connection/ChangeConnection.tsx";
import { Layers } from "./connection/Layers.tsx";

/** Which connection profiles devices have, and the layers that they come from. */
export function ConnectionsPage() {
  const status = useQuery(
    "connection status",
    () => ask(CONNECTION_STATUS, {}),
    ({ noun }) => noun === "connection",
  );
  const [changing, setChanging] = useState<ConnectionTarget>();
  const action = useAction();
  const retry = (target: ConnectionTarget) =>
    action.run(async () => {
      const { devices } = await ask(CONNECTION_RETRY, target);
      return `${plural(devices, "device is", "devices are")} sent the wanted profile again, when online.`;
    });
  const saved = (done: string) => action.run(() => Promise.resolve(done));
  return (
    <>
      <h1>Connection profiles</h1>
      <Target busy={action.busy} change={setChanging} retry={retry} />
      <Outcome action={action} />
      <Answered query={status}>{(found) => <Status status={found} />}</Answered>
      <Layers change={setChanging} saved={saved} />
      {changing && <ChangeConnection target={changing} close={() => setChanging(undefined)} saved={saved} />}
    </>
  );
}

interface TargetProps {
  readonly busy: boolean;
  readonly change: (target: ConnectionTarget) => void;
  readonly retry: (target: ConnectionTarget) => void;
}

/** Selects the devices whose layer is changed, or that are sent their profile again. */
function Target({ busy, change, retry }: TargetProps) {
  const [kind, setKind] = useState<"all" | "tag" | "device">("all");
  const [value, setValue] = useState("");
  const target = kind === "all" ? { all: true } : { [kind]: value };
  const onSubmit = (event: SubmitEvent) => {
    event.preventDefault();
    const again = (event.submitter as HTMLButtonElement | null)?.value === "again";
    (again ? retry : change)(target);
  };
  return (
    <form class="line" onSubmit={onSubmit}>
      <SelectField
        label="Devices"
        value={kind}
        options={[
          ["all", "all devices"],
          ["tag", "by tag"],
          ["device", "one device"],
        ]}
        onChange={(event) => setKind(event.currentTarget.value as typeof kind)}
      />
      {kind !== "all" && (
        <TextField
          label={kind === "tag" ? "Tag" : "Device"}
          required
          value={value}
          onInput={(event) => setValue(event.currentTarget.value.trim())}
        />
      )}
      <Button needs={CONNECTION_SET} type="submit" class="primary">
        Change profile
      </Button>
      <Button needs={CONNECTION_RETRY} type="submit" value="again" disabled={busy}>
        Send again
      </Button>
    </form>
  );
}

function Status({ status }: { status: ConnectionStatus }) {
  const { profiles, authorities, more } = status;
  return (
    <>
      <Panel title="In use">
        {profiles.length === 0 ? (
          <Empty>No device has a connection profile yet.</Empty>
        ) : (
          <Table
            label="Profiles"
            head={["Connects to", "Profile", "Use it", "Keep it as fallback", "Wait for it", "Refused it"]}
          >
            {profiles.map((profile) => (
              <tr key={profile.connection_id}>
                <th scope="row">{placeOf(profile)}</th>
                <td>
                  <code>{profile.connection_id}</code>
                </td>
                <td>{profile.in_use}</td>
                <td>{profile.fallback}</td>
                <td>{profile.waiting}</td>
                <td>{profile.refused}</td>
              </tr>
            ))}
          </Table>
        )}
        {more > 0 && <small>And {plural(more, "more profile", "more profiles")}.</small>}
      </Panel>
      {authorities.length > 0 && (
        <Panel title="Authorities">
          <Table label="Authorities" head={["Authority", "Ends", "Trusted by", "Alone by"]}>
            {authorities.map(({ fingerprint, subject, ends_at, devices, alone }) => (
              <tr key={fingerprint}>
                <th scope="row">{subject}</th>
                <td>{ends_at.slice(0, 10)}</td>
                <td>{devices}</td>
                <td>{alone}</td>
              </tr>
            ))}
          </Table>
        </Panel>
      )}
      <ul class="events">
        {conclusions(status).map((sentence) => (
          <li key={sentence}>{sentence}</li>
        ))}
      </ul>
    </>
  );
}
