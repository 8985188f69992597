import { SelectField, TextField } from "../../components/fields.tsx";
import type { Wifi } from "../../lib/connectionForm.ts";
import { networkNames, valueText } from "../../lib/connections.ts";
import type { ConnectionLayerView, ConnectionView, WifiNetwork } from "../../protocol.ts";

const MOST = 5;
const NEW: WifiNetwork = { ssid: "", password: "" };

interface Props {
  readonly view: ConnectionView;
  readonly layer: ConnectionLayerView | undefined;
  readonly wifi: Wifi;
  readonly error: string | undefined;
  readonly change: (wifi: Wifi) => void;
}

/** The networks of a layer; as nobody is shown a password, they are kept, or all entered anew. */
export function WifiFields({ view, layer, wifi, error, change }: Props) {
  const names = networkNames(layer?.document.wifi);
  const found = view.values.find(({ field }) => field === "wifi");
  const below = names.length > 0 ? "" : found ? ` (${valueText(found, view)})` : " (the device's own)";
  return (
    <div class="grid">
      <SelectField
        label="Wi-Fi"
        value={typeof wifi === "string" ? wifi : "new"}
        error={error}
        hint="Devices try the networks in this order."
        options={[
          ...(names.length > 0 ? [["kept", `as it is: ${names.join(", ")}`] as const] : []),
          ["below", `as the layers below${below}`],
          ["new", "networks that I enter"],
        ]}
        onChange={({ currentTarget: { value } }) => change(value === "new" ? [NEW] : (value as "kept" | "below"))}
      />
      {typeof wifi !== "string" && <Networks networks={wifi} change={change} />}
    </div>
  );
}

function Networks({
  networks,
  change,
}: {
  networks: readonly WifiNetwork[];
  change: (networks: readonly WifiNetwork[]) => void;
}) {
  const edit = (place: number, part: Partial<WifiNetwork>) =>
    change(networks.map((network, index) => (index === place ? { ...network, ...part } : network)));
  return (
    <>
      {networks.map(({ ssid, password }, index) => (
        <div key={index} class="editor grid">
          <TextField
            label={`Name of network ${index + 1}`}
            required
            value={ssid}
            spellcheck={false}
            autocomplete="off"
            onInput={(event) => edit(index, { ssid: event.currentTarget.value })}
          />
          <TextField
            label={`Password of network ${index + 1}`}
            hint="Empty for an open network."
            type="password"
            autocomplete="new-password"
            value={password ?? ""}
            onInput={(event) => edit(index, { password: event.currentTarget.value })}
          />
        </div>
      ))}
      <div class="buttons">
        {networks.length < MOST && (
          <button type="button" onClick={() => change([...networks, NEW])}>
            Add network
          </button>
        )}
        {networks.length > 1 && (
          <button type="button" onClick={() => change(networks.slice(0, -1))}>
            Remove last network
          </button>
        )}
      </div>
    </>
  );
}
