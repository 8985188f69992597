import { Ago, Badge } from "../../components/basics.tsx";
import { Firmware } from "../../components/Firmware.tsx";
import { DialogButton, OperationForm } from "../../components/form.tsx";
import { Health, LastSeen } from "../../components/Health.tsx";
import type { Column } from "../../components/VirtualList.tsx";
import { PRESENCE_TONES, ROTATION_TONES, drifts, rotationWord } from "../../lib/census.ts";
import { DEVICE_LIST, type DeviceView } from "../../protocol.ts";
import { changeColumns, changedColumns } from "../../state/columns.ts";
import { fleet } from "../../state/fleet.ts";

const DEVICE: Column<DeviceView> = {
  name: "Device",
  share: 2.2,
  cell: ({ name, client_id: id }) => (
    <>
      <b>{name || id}</b>
      {name && <small>{id}</small>}
    </>
  ),
};

/** The columns that can be chosen; a column that `isExtra` is not shown by default. */
const OTHERS: readonly (Column<DeviceView> & { readonly isExtra?: boolean })[] = [
  {
    name: "State",
    share: 0.8,
    cell: ({ enabled, presence }) => (
      <Badge tone={enabled ? PRESENCE_TONES[presence] : "bad"}>{enabled ? presence : "disabled"}</Badge>
    ),
  },
  { name: "Health", share: 1.2, cell: (device) => <Health device={device} brief /> },
  {
    name: "Model",
    share: 1.2,
    cell: ({ model, tags }) => (
      <>
        {model}
        {tags.length > 0 && !isShown("Tags", true) && <small>{tags.join(", ")}</small>}
      </>
    ),
  },
  { name: "Tags", share: 1.2, isExtra: true, cell: ({ tags }) => tags.join(", ") },
  {
    name: "Configuration",
    share: 1,
    cell: (device) => (
      <Badge tone={drifts(device) ? "warn" : "good"}>
        {drifts(device)
          ? `${device.config_version_reported ?? "–"} → ${device.config_version}`
          : device.config_version}
      </Badge>
    ),
  },
  {
    name: "Secret",
    share: 1,
    cell: ({ rotation_state: state }) => (
      <Badge tone={ROTATION_TONES[state] ?? "calm"}>{rotationWord(state)}</Badge>
    ),
  },
  { name: "Secret since", share: 1, isExtra: true, cell: (device) => <Ago at={device.secret_created_at} /> },
  {
    name: "Firmware",
    share: 1,
    cell: (device) => <Firmware device={device} firmware={fleet.value.firmware.get(device.client_id)} />,
  },
  { name: "Last seen", share: 1, cell: (device) => <LastSeen device={device} /> },
];

function isShown(name: string, isExtra = false): boolean {
  return changedColumns.value.has(name) === isExtra;
}

/** The columns in the order in which they are shown; the device is always the first. */
export function shownColumns(): readonly Column<DeviceView>[] {
  return [DEVICE, ...OTHERS.filter(({ name, isExtra }) => isShown(name, isExtra))];
}

export function ChooseColumns() {
  return (
    <DialogButton label="Columns" title="Columns of the list" needs={DEVICE_LIST}>
      {(close) => (
        <OperationForm<Record<string, boolean>>
          specs={Object.fromEntries(
            OTHERS.map(({ name, isExtra }) => [
              name,
              { label: name, kind: "check" as const, initial: isShown(name, isExtra) },
            ]),
          )}
          verb="Show"
          cancel={close}
          run={(chosen) => {
            const changed = OTHERS.filter(({ name, isExtra = false }) => chosen[name] === isExtra);
            changeColumns(new Set(changed.map(({ name }) => name)));
            close();
            return Promise.resolve(undefined);
          }}
        >
          <small>On a narrow screen, the first two that are chosen are shown.</small>
        </OperationForm>
      )}
    </DialogButton>
  );
}
