import { useState } from "preact/hooks";

import { Ago, Answered, Badge, Facts, Notice } from "../components/basics.tsx";
import { Button } from "../components/Button.tsx";
import { ConfirmButton } from "../components/form.tsx";
import { Firmware } from "../components/Firmware.tsx";
import { Health, LastSeen } from "../components/Health.tsx";
import { Outcome } from "../components/fields.tsx";
import { PROGRESS_TONES, progressOf } from "../lib/connections.ts";
import { PRESENCE_TONES, ROTATION_TONES, drifts, rotationWord } from "../lib/census.ts";
import { href } from "../lib/router.ts";
import {
  DEVICE_SHOW,
  DEVICE_UPDATE,
  FIRMWARE_OF,
  ROTATION_START,
  type DeviceConnectionView,
  type DeviceDetails,
  type DeviceFirmware,
} from "../protocol.ts";
import { time } from "../lib/text.ts";
import { useAction } from "../state/action.ts";
import { useQuery } from "../state/query.ts";
import { ask } from "../state/session.ts";
import { Commands } from "./device/Commands.tsx";
import { Connection } from "./device/Connection.tsx";
import { Configuration } from "./device/Configuration.tsx";
import { CoreDumps } from "./device/CoreDumps.tsx";
import { EditDevice } from "./device/EditDevice.tsx";
import { History } from "./device/History.tsx";
import { Log } from "./device/Log.tsx";
import { RotationHistory } from "./device/RotationHistory.tsx";
import { Setup } from "./device/Setup.tsx";

const TABS = [
  ["configuration", "Configuration"],
  ["history", "History"],
  ["commands", "Commands"],
  ["log", "Log"],
  ["rotations", "Rotations"],
  ["connection", "Connection"],
  ["coredumps", "Core dumps"],
  ["setup", "Set up"],
] as const;

export function DevicePage({ clientId, tab }: { clientId: string; tab: string }) {
  const device = useQuery(
    `device ${clientId}`,
    () => ask(DEVICE_SHOW, { device: clientId }),
    ({ client_id: about, noun }) => about === clientId || (!about && noun === "connection"),
  );
  return (
    <Answered query={device}>
      {(found) => (
        <>
          <Head device={found} />
          <nav class="tabs" aria-label="About the device">
            {TABS.map(([name, title]) => (
              <a key={name} href={href("device", clientId, name)} aria-current={name === tab ? "page" : undefined}>
                {title}
              </a>
            ))}
          </nav>
          <Tab device={found} tab={tab} />
        </>
      )}
    </Answered>
  );
}

function Tab({ device, tab }: { device: DeviceDetails; tab: string }) {
  const clientId = device.client_id;
  switch (tab) {
    case "history":
      return <History device={clientId} />;
    case "commands":
      return <Commands of={{ device: clientId }} />;
    case "log":
      return <Log of={{ device: clientId }} />;
    case "rotations":
      return <RotationHistory device={clientId} />;
    case "connection":
      return <Connection device={clientId} />;
    case "coredumps":
      return <CoreDumps device={clientId} />;
    case "setup":
      return <Setup device={device} />;
    default:
      return (
        <Configuration device={clientId} model={device.model} version={device.config_version} tags={device.tags} />
      );
  }
}

function Head({ device }: { device: DeviceDetails }) {
  const action = useAction();
  const [editing, setEditing] = useState(false);
  const id = device.client_id;
  const firmware = useQuery(
    `firmware ${id}`,
    () => ask(FIRMWARE_OF, { devices: [id] }),
    ({ client_id: about, noun }) => about === id || (!about && noun === "firmware"),
  );
  const rotate = () =>
    action.run(async () => {
      const { queued, already, skipped } = await ask(ROTATION_START, { device: id });
      if (queued.count > 0) {
        return "Rotation queued.";
      }
      return already.count > 0
        ? "A rotation is already queued or in progress."
        : skipped.count > 0
          ? "The device is disabled."
          : "The previous rotation has not ended yet; retry soon.";
    });
  const enable = () =>
    action.run(async () => {
      const { enabled } = await ask(DEVICE_UPDATE, { device: id, enabled: !device.enabled });
      return enabled ? "Enabled." : "Disabled: Keycloak and the broker refuse the device.";
    });
  return (
    <>
      <div class="title">
        <h1>
          {device.name || id}
          <small>{device.name && id}</small>
        </h1>
        <Button needs={DEVICE_UPDATE} onClick={() => setEditing(true)}>
          Edit
        </Button>
        <Button needs={ROTATION_START} disabled={action.busy || !device.enabled} onClick={rotate}>
          Rotate secret
        </Button>
        {device.enabled ? (
          <ConfirmButton
            label="Disable"
            title={`Disable ${device.name || id}?`}
            verb="Disable"
            tone="danger"
            needs={DEVICE_UPDATE}
            run={async () => {
              await enable();
              return undefined;
            }}
          >
            Its connection is ended, and Keycloak and the broker refuse it until it is enabled again.
          </ConfirmButton>
        ) : (
          <Button needs={DEVICE_UPDATE} disabled={action.busy} onClick={enable}>
            Enable
          </Button>
        )}
      </div>
      {editing && <EditDevice device={device} close={() => setEditing(false)} />}
      <Outcome action={action} />
      <Facts facts={factsOf(device, firmware.data?.devices[0])} />
      {device.clashed_at && (
        <Notice tone="bad">
          <span>
            Two boards have this identity and end each other's connection, last <Ago at={device.clashed_at} />.
            Make one of them another device, with a package of its own.
          </span>
        </Notice>
      )}
      {device.flaws.length > 0 && <Flaws device={device} />}
    </>
  );
}

/** What the device reports against the rules of the protocol. */
function Flaws({ device }: { device: DeviceDetails }) {
  return (
    <Notice tone="warn">
      <div>
        A rule of the protocol is broken in the device's messages; what breaks it is left out:
        <ul>
          {device.flaws.map(({ topic, field, rule, at }) => (
            <li key={`${topic} ${field}`}>
              <code>{topic}</code> {field}: {rule} (since <Ago at={at} />)
            </li>
          ))}
        </ul>
      </div>
    </Notice>
  );
}

function factsOf(device: DeviceDetails, firmware: DeviceFirmware | undefined) {
  const drift = drifts(device);
  return [
    [
      "State",
      <Badge tone={device.enabled ? PRESENCE_TONES[device.presence] : "bad"}>
        {device.enabled ? device.presence : "disabled"}
      </Badge>,
    ],
    ...(device.asleep_until ? ([["Asleep until", `${time(device.asleep_until)} at the latest`]] as const) : []),
    ...(device.wake_interval_s ? ([["Wakes up every", `${device.wake_interval_s} s`]] as const) : []),
    ["Health", <Health device={device} />],
    ["Last seen", <LastSeen device={device} />],
    ["Model", device.model],
    ["Tags", device.tags.join(", ") || "–"],
    ["Firmware", <Firmware device={device} firmware={firmware} />],
    [
      "Configuration",
      <Badge tone={drift ? "warn" : "good"}>
        {drift
          ? `version ${device.config_version}, reported ${device.config_version_reported ?? "none"}${device.config_outcome && device.config_outcome !== "applied" ? ` (${device.config_outcome})` : ""}`
          : `version ${device.config_version} applied`}
      </Badge>,
    ],
    ...(device.config_error ? ([["Configuration error", device.config_error]] as const) : []),
    [
      "Secret",
      <>
        generation {device.secret_generation}{" "}
        <Badge tone={ROTATION_TONES[device.rotation_state] ?? "calm"}>{rotationWord(device.rotation_state)}</Badge>
      </>,
    ],
    ...(device.connection ? ([["Connection", <ConnectionLine connection={device.connection} />]] as const) : []),
    ["Recovery", device.has_key ? "with its device key" : <Badge tone="warn">no device key</Badge>],
  ] as const;
}

function ConnectionLine({ connection }: { connection: DeviceConnectionView }) {
  return (
    <>
      <Badge tone={PROGRESS_TONES[connection.progress]}>{connection.progress}</Badge>{" "}
      {connection.progress !== "in use" && <small>{progressOf(connection)}</small>}
    </>
  );
}
