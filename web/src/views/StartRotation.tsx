import { useState } from "preact/hooks";

import { SelectField, TextField } from "../components/fields.tsx";
import { plural } from "../lib/text.ts";
import { fleet } from "../state/fleet.ts";

export interface Chosen {
  readonly all?: boolean;
  readonly tag?: string;
  readonly model?: string;
}

interface Props {
  readonly start: (chosen: Chosen) => void;
  readonly busy: boolean;
}

/** Selects the devices for a rotation and shows their number. */
export function StartRotation({ start, busy }: Props) {
  const [kind, setKind] = useState<"all" | "tag" | "model">("all");
  const [value, setValue] = useState("");
  const devices = fleet.value.devices.filter(
    ({ model, tags }) => kind === "all" || (kind === "tag" ? tags.includes(value) : model === value),
  );
  const onSubmit = (event: SubmitEvent) => {
    event.preventDefault();
    start(kind === "all" ? { all: true } : { [kind]: value });
  };
  return (
    <form class="line" onSubmit={onSubmit}>
      <SelectField
        label="Devices"
        value={kind}
        options={[
          ["all", "all devices"],
          ["tag", "by tag"],
          ["model", "by model"],
        ]}
        onChange={(event) => setKind(event.currentTarget.value as typeof kind)}
      />
      {kind !== "all" && (
        <TextField
          label={kind === "tag" ? "Tag" : "Model"}
          required
          value={value}
          onInput={(event) => setValue(event.currentTarget.value.trim())}
        />
      )}
      <button type="submit" class="primary" disabled={busy || devices.length === 0}>
        Start rotation of {plural(devices.length, "device")}
      </button>
    </form>
  );
}
