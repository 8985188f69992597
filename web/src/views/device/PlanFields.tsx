import { SelectField, TextField } from "../../components/fields.tsx";
import { BAUD_RATES, FROM_FILE, problemsOf, type Plan } from "../../flash/plan.ts";
import type { ImageView } from "../../protocol.ts";

interface Props {
  readonly plan: Plan;
  readonly images: readonly ImageView[];
  readonly change: (part: Partial<Plan>) => void;
}

function chosen(files: FileList | null): Partial<Plan> {
  const whole = files?.[0];
  return whole ? { whole } : {};
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
          [FROM_FILE, "The whole flash of a blank board, from a file"],
          ["", "None: keep the application"],
        ]}
        onChange={(event) => change({ image: event.currentTarget.value })}
      />
      {plan.image === FROM_FILE && (
        <TextField
          label="File"
          type="file"
          accept=".bin"
          hint="Bootloader, partition table and application in one, from esptool merge-bin."
          onChange={(event) => change(chosen(event.currentTarget.files))}
        />
      )}
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
      {plan.image && plan.image !== FROM_FILE && <TextField label="App address" {...text("appAddress")} />}
      {plan.provision && plan.image !== FROM_FILE && (
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
