import { useState } from "preact/hooks";

import { Badge, Empty, Failed, Loading } from "../components/basics.tsx";
import { Button } from "../components/Button.tsx";
import { Firmware } from "../components/Firmware.tsx";
import { Health, LastSeen } from "../components/Health.tsx";
import { VirtualList } from "../components/VirtualList.tsx";
import { PRESENCE_TONES, ROTATION_TONES, drifts } from "../lib/census.ts";
import { href } from "../lib/router.ts";
import { SEARCH_WORDS, search } from "../lib/search.ts";
import { plural } from "../lib/text.ts";
import { DEVICE_ADD, type DeviceView } from "../protocol.ts";
import { fleet, reloadFleet } from "../state/fleet.ts";
import { AddDevice } from "./AddDevice.tsx";

const HEAD = ["Device", "State", "Health", "Configuration", "Secret", "Firmware", "Last seen"];

export function DevicesPage({ query }: { query: readonly string[] }) {
  const [text, setText] = useState(query.join(" "));
  const [adding, setAdding] = useState(false);
  const { devices, complete, error } = fleet.value;
  const found = search(devices, text);
  return (
    <>
      <div class="title">
        <h1>Devices</h1>
        <Button needs={DEVICE_ADD} class="primary" onClick={() => setAdding(true)}>
          Add device
        </Button>
      </div>
      <div class="searching">
        <input
          type="search"
          aria-label="Search devices"
          aria-describedby="search-hint"
          placeholder="Name, id, model, tag, or presence:offline drift:yes …"
          value={text}
          onInput={(event) => setText(event.currentTarget.value)}
        />
        <span role="status">
          {found.length === devices.length
            ? plural(devices.length, "device")
            : `${found.length.toLocaleString()} of ${plural(devices.length, "device")}`}
          {!complete && " so far…"}
        </span>
      </div>
      <small id="search-hint">Search terms: {SEARCH_WORDS.map((word) => `${word}:…`).join(" ")}</small>
      {error && <Failed error={error} retry={reloadFleet} />}
      {!complete && devices.length === 0 && !error && <Loading />}
      {complete && devices.length === 0 && <Empty>No devices yet. Add the first one.</Empty>}
      {devices.length > 0 && found.length === 0 && <Empty>No devices match “{text}”.</Empty>}
      {found.length > 0 && (
        <VirtualList
          label="Devices"
          head={HEAD}
          items={found}
          keyOf={(device) => device.client_id}
          hrefOf={(device) => href("device", device.client_id)}
          cells={cells}
        />
      )}
      {adding && <AddDevice close={() => setAdding(false)} />}
    </>
  );
}

function cells(device: DeviceView) {
  return [
    <>
      <b>{device.name || device.client_id}</b>
      {device.name && <small>{device.client_id}</small>}
    </>,
    !device.enabled ? (
      <Badge tone="bad">disabled</Badge>
    ) : (
      <Badge tone={PRESENCE_TONES[device.presence]}>{device.presence}</Badge>
    ),
    <Health device={device} brief />,
    <Badge tone={drifts(device) ? "warn" : "good"}>
      {drifts(device)
        ? `${device.config_version_reported ?? "–"} → ${device.config_version}`
        : device.config_version}
    </Badge>,
    <Badge tone={ROTATION_TONES[device.rotation_state] ?? "calm"}>{device.rotation_state.toLowerCase()}</Badge>,
    <Firmware device={device} firmware={fleet.value.firmware.get(device.client_id)} brief />,
    <LastSeen device={device} />,
  ];
}
