import { SelectField, TextField } from "../../components/fields.tsx";
import { BAUD_RATES, problemsOf, type Plan } from "../../flash/plan.ts";
import type { ImageView } from "../../protocol.ts";

interface Props {
  readonly plan: Plan;
  readonly images: readonly ImageView[];
  readonly change: (part: Partial<Plan>) => void;
}

/** Selects what to flash and where; the addresses must match the chip's partition table. */
export function PlanFields({ plan, images, change }: Props) {
  const problems = problemsOf(plan);
  const text = (name: keyof Plan) => ({
    name,
    value: plan[name] as string,
    error: problems[name],
    spellcheck: false,
    autocomplete: "off",
    onInput: (event: { currentTarget: HTMLInputElement }) => change({ [name]: event.currentTarget.value }),
  });
  return (
    <div class="editor grid">
      <SelectField
        label="Image"
        value={plan.image}
        options={[
          ...images.map(
            ({ sha256, version, current }) => [sha256, current ? `${version} (current)` : version] as const,
          ),
          ["", "None: keep the application"],
        ]}
        onChange={(event) => change({ image: event.currentTarget.value })}
      />
      <SelectField
        label="Provisioning"
        value={plan.provision ? "yes" : ""}
        options={[
          ["yes", "This device's secret"],
          ["", "None: keep NVS"],
        ]}
        onChange={(event) => change({ provision: event.currentTarget.value !== "" })}
      />
      {plan.provision && (
        <>
          <TextField label="Wi-Fi name" hint="Empty for none." {...text("ssid")} />
          <TextField
            label="Wi-Fi password"
            hint="Or a key of 64 hexadecimal digits. Empty for an open network."
            {...text("password")}
            type="password"
            autocomplete="new-password"
          />
        </>
      )}
      {plan.image && <TextField label="App address" {...text("appAddress")} />}
      {plan.provision && (
        <>
          <TextField
            label="NVS address"
            hint="If the chip's partition table has an NVS named mdm, that one is written."
            {...text("nvsAddress")}
          />
          <TextField label="NVS size" {...text("nvsSize")} />
        </>
      )}
      <SelectField
        label="Speed"
        value={plan.baudRate}
        options={BAUD_RATES.map((rate) => [rate, `${rate} baud`])}
        onChange={(event) => change({ baudRate: event.currentTarget.value })}
      />
    </div>
  );
}
