import { useState } from "preact/hooks";

import { Notice } from "../../components/basics.tsx";
import { OperationForm, type Specs } from "../../components/form.tsx";
import { plural } from "../../lib/text.ts";
import { schemaOf, settingsOf, type Setting } from "../../lib/schema.ts";
import { MODEL_ADD, MODEL_UPDATE, type ModelAdd, type ModelUpdate, type ModelView } from "../../protocol.ts";
import { ask } from "../../state/session.ts";
import { SettingsEditor } from "./SettingsEditor.tsx";

const CHIPS = [
  "esp32",
  "esp32s2",
  "esp32s3",
  "esp32c2",
  "esp32c3",
  "esp32c5",
  "esp32c6",
  "esp32c61",
  "esp32h2",
  "esp32h21",
  "esp32h4",
  "esp32p4",
  "esp32e22",
  "esp32s31",
] as const satisfies readonly ModelAdd["chip"][];

export function AddModel({ added }: { added: () => void }) {
  const [settings, setSettings] = useState<readonly Setting[]>([]);
  const specs: Specs<ModelAdd> = {
    code: {
      label: "Code",
      required: true,
      hint: "a-z, digits and _; cannot be changed later, such as thermometer.",
    },
    ...common,
  };
  return (
    <OperationForm<ModelAdd>
      specs={specs}
      verb="Add"
      run={async (asked) => {
        const { schema, defaults } = schemaOf(settings);
        const described = settings.length > 0 ? { config_schema: schema, config_defaults: defaults } : {};
        await ask(MODEL_ADD, { ...asked, ...described });
        added();
        return undefined;
      }}
    >
      <SettingsEditor settings={settings} change={setSettings} />
    </OperationForm>
  );
}

/** Changes a model; its settings by the form if it can show all of the schema, else as JSON. */
export function ChangeModel({ model, close }: { model: ModelView; close: () => void }) {
  const { code, name, chip, slot_size_bytes, secure_boot_keys, commands, config_schema, config_defaults } = model;
  const [settings, setSettings] = useState<readonly Setting[] | undefined>(() =>
    settingsOf(config_schema, config_defaults),
  );
  const [isChanged, setChanged] = useState(false);
  const [changed, setDone] = useState<number>();
  const specs: Specs<ModelUpdate> = {
    name: { ...common.name, initial: name, empty: "" },
    chip: { ...common.chip, initial: chip },
    slot_size_bytes: { ...common.slot_size_bytes, initial: slot_size_bytes },
    commands: { ...common.commands, initial: commands, empty: [] },
    secure_boot_keys: { ...common.secure_boot_keys, initial: secure_boot_keys, empty: [] },
    ...(settings === undefined && {
      config_schema: { label: "JSON Schema of the settings", kind: "json", initial: config_schema },
      config_defaults: { label: "Defaults", kind: "json", initial: config_defaults, empty: {} },
    }),
  };
  return changed === undefined ? (
    <OperationForm<ModelUpdate>
      specs={specs}
      verb="Save"
      run={async (asked) => {
        let described = {};
        if (settings !== undefined && isChanged) {
          const { schema, defaults } = schemaOf(settings);
          described = { config_schema: schema, config_defaults: defaults };
        }
        setDone((await ask(MODEL_UPDATE, { ...asked, ...described, code })).changed.length);
        return undefined;
      }}
    >
      {settings && (
        <SettingsEditor
          settings={settings}
          change={(found) => {
            setSettings(found);
            setChanged(true);
          }}
        />
      )}
      <small>
        Devices whose configuration changes get a new version. If one would violate the schema, nothing changes.
      </small>
    </OperationForm>
  ) : (
    <div class="grid">
      <Notice tone="good">
        Saved.{" "}
        {changed === 0 ? "No device's configuration changes." : `${plural(changed, "device")} get a new version.`}
      </Notice>
      <footer>
        <button type="button" class="primary" onClick={close}>
          Done
        </button>
      </footer>
    </div>
  );
}

const common = {
  name: { label: "Name", maxLength: 200, hint: "Display name." },
  chip: {
    label: "Chip",
    options: CHIPS.map((chip) => [chip, chip.toUpperCase().replace(/^ESP32(.)/, "ESP32-$1")] as const),
  },
  slot_size_bytes: {
    label: "App partition in bytes",
    kind: "number",
    min: 4096,
    hint: "An image must fit; 1,572,864 if empty, as in the partition tables with two app slots.",
  },
  commands: { label: "Commands", kind: "words", hint: "Besides reboot and identify, separated by spaces." },
  secure_boot_keys: {
    label: "Secure Boot keys",
    kind: "words",
    hint: "Digests of keys; if there are any, only images that one of them has signed are accepted.",
  },
} as const;
