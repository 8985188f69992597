import type { ComponentChildren } from "preact";

import { Badge, Table } from "../../components/basics.tsx";
import { progressOf, runsOf, toneOf } from "../../components/Firmware.tsx";
import { drifts, inStep, ROTATION_TONES, rotationWord } from "../../lib/census.ts";
import { PROGRESS_TONES, refusalOf } from "../../lib/connections.ts";
import { time } from "../../lib/text.ts";
import type { DeviceConnectionView, DeviceDetails, DeviceFirmware } from "../../protocol.ts";

/** What a device has next to what is wanted for it, and why that is not the same. */
export function Wanted({ device, firmware }: { device: DeviceDetails; firmware: DeviceFirmware | undefined }) {
  const { connection, secret_generation_reported: reported } = device;
  return (
    <Table label="In use and wanted" head={["What", "In use", "Wanted", "State"]}>
      <Row name="Firmware" has={runsOf(device, firmware)} wanted={firmware?.wanted ?? "–"}>
        {firmware && <Badge tone={toneOf(firmware)}>{progressOf(firmware)}</Badge>}
      </Row>
      <Row
        name="Configuration"
        has={device.config_version_reported === null ? "–" : `version ${device.config_version_reported}`}
        wanted={`version ${device.config_version}`}
      >
        <Badge tone={inStep(device) ? "good" : drifts(device) ? "warn" : "calm"}>
          {device.config_outcome ?? "not reported"}
        </Badge>{" "}
        {device.config_error && <small>{device.config_error}</small>}
      </Row>
      <Row
        name="Secret"
        has={reported === null ? "–" : `generation ${reported}`}
        wanted={`generation ${device.secret_generation}`}
      >
        <Badge tone={ROTATION_TONES[device.rotation_state] ?? "calm"}>{rotationWord(device.rotation_state)}</Badge>
      </Row>
      {connection && (
        <Row
          name="Connection profile"
          has={connection.in_use ?? (connection.reported_at === null ? "–" : "that of its package")}
          wanted={connection.wanted}
        >
          <Badge tone={PROGRESS_TONES[connection.progress]}>{connection.progress}</Badge>{" "}
          <small>{reasonOf(connection)}</small>
        </Row>
      )}
    </Table>
  );
}

interface RowProps {
  readonly name: string;
  readonly has: string;
  readonly wanted: string;
  readonly children: ComponentChildren;
}

function Row({ name, has, wanted, children }: RowProps) {
  return (
    <tr>
      <th scope="row">{name}</th>
      <td>{has}</td>
      <td>{wanted}</td>
      <td>{children}</td>
    </tr>
  );
}

function reasonOf(connection: DeviceConnectionView): string {
  switch (connection.progress) {
    case "refused":
      return refusalOf(connection);
    case "waiting":
      return connection.sent_id === connection.wanted ? `sent ${time(connection.sent_at)}` : "not sent yet";
    case "fallback":
      return `cannot connect with ${connection.first ?? "its own"}, uses the former one`;
    default:
      return "";
  }
}
