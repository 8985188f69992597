import { useMemo, useState } from "preact/hooks";

import { Empty, Failed, Loading } from "../../components/basics.tsx";
import { Button } from "../../components/Button.tsx";
import { VirtualList } from "../../components/VirtualList.tsx";
import { href } from "../../lib/router.ts";
import { unknownWords, search } from "../../lib/search.ts";
import { sorted, type Order } from "../../lib/sorting.ts";
import { plural } from "../../lib/text.ts";
import { DEVICE_ADD } from "../../protocol.ts";
import { fleet, reloadFleet } from "../../state/fleet.ts";
import { AddDevice } from "./AddDevice.tsx";
import { Bulk } from "./Bulk.tsx";
import { ChooseColumns, shownColumns } from "./columns.tsx";
import { Filters } from "./Filters.tsx";
import { ImportDevices } from "./ImportDevices.tsx";

export function DevicesPage({ query }: { query: readonly string[] }) {
  const [text, setText] = useState(query.join(" "));
  const [order, setOrder] = useState<Order>();
  const [selected, select] = useState<ReadonlySet<string>>(new Set());
  const [adding, setAdding] = useState<"one" | "many">();
  const { devices, complete, error } = fleet.value;
  const found = useMemo(() => sorted(search(devices, text), order), [devices, text, order]);
  const chosen = found.filter(({ client_id: id }) => selected.has(id));
  return (
    <>
      <div class="title">
        <h1>Devices</h1>
        <div class="buttons">
          <Button needs={DEVICE_ADD} onClick={() => setAdding("many")}>
            Import
          </Button>
          <Button needs={DEVICE_ADD} class="primary" onClick={() => setAdding("one")}>
            Add device
          </Button>
        </div>
      </div>
      <div class="searching">
        <input
          type="search"
          aria-label="Search devices"
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
        <ChooseColumns />
      </div>
      {devices.length > 0 && <Filters devices={found} text={text} change={setText} />}
      {error && <Failed error={error} retry={reloadFleet} />}
      {!complete && devices.length === 0 && !error && <Loading />}
      {complete && devices.length === 0 && <Empty>No devices yet. Add the first one.</Empty>}
      {devices.length > 0 && found.length === 0 && <Empty>{nothing(text)}</Empty>}
      {chosen.length > 0 && <Bulk devices={chosen} clear={() => select(new Set())} />}
      {found.length > 0 && (
        <VirtualList
          label="Devices"
          columns={shownColumns()}
          items={found}
          keyOf={(device) => device.client_id}
          hrefOf={(device) => href("device", device.client_id)}
          nameOf={(device) => device.name || device.client_id}
          order={order}
          sort={setOrder}
          selected={selected}
          select={select}
        />
      )}
      {adding === "one" && <AddDevice close={() => setAdding(undefined)} />}
      {adding === "many" && <ImportDevices close={() => setAdding(undefined)} />}
    </>
  );
}

function nothing(text: string): string {
  const unknown = unknownWords(text);
  return unknown.length > 0
    ? `There is no search term ${unknown.join(", ")}; those above are, and reason, rotation, firmware, drift, enabled.`
    : `No devices match “${text}”.`;
}
