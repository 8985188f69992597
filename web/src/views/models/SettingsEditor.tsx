import { SelectField, TextField } from "../../components/fields.tsx";
import { KINDS, NEW_SETTING, type Setting } from "../../lib/schema.ts";

const KIND_NAMES: Record<Setting["type"], string> = {
  boolean: "yes or no",
  integer: "whole number",
  number: "number",
  string: "text",
};

interface Props {
  readonly settings: readonly Setting[];
  readonly change: (settings: readonly Setting[]) => void;
}

/** The settings of a model, one under the other; what they say becomes a JSON Schema and defaults. */
export function SettingsEditor({ settings, change }: Props) {
  return (
    <fieldset>
      <legend>Settings of its configuration</legend>
      {settings.map((setting, index) => (
        <SettingFields
          key={index}
          setting={setting}
          change={(part) => change(settings.map((old, place) => (place === index ? { ...old, ...part } : old)))}
          remove={() => change(settings.filter((_, place) => place !== index))}
        />
      ))}
      <div class="buttons">
        <button type="button" onClick={() => change([...settings, NEW_SETTING])}>
          Add setting
        </button>
      </div>
      {settings.length === 0 && <small>Without settings, a configuration is any JSON object.</small>}
    </fieldset>
  );
}

interface FieldsProps {
  readonly setting: Setting;
  readonly change: (part: Partial<Setting>) => void;
  readonly remove: () => void;
}

function SettingFields({ setting, change, remove }: FieldsProps) {
  const input = (name: "name" | "description" | "minimum" | "maximum" | "choices" | "fallback") => ({
    value: setting[name],
    autocomplete: "off",
    spellcheck: false,
    onInput: (event: { currentTarget: HTMLInputElement }) => change({ [name]: event.currentTarget.value }),
  });
  const isNumber = setting.type === "integer" || setting.type === "number";
  return (
    <div class="setting editor grid" role="group" aria-label={setting.name || "new setting"}>
      <TextField label="Setting" {...input("name")} placeholder="interval_s" required />
      <SelectField
        label="Type"
        value={setting.type}
        options={KINDS.map((kind) => [kind, KIND_NAMES[kind]] as const)}
        onChange={(event) => change({ type: event.currentTarget.value as Setting["type"] })}
      />
      {!setting.isSealed && <TextField label="Default" {...input("fallback")} />}
      {isNumber && <TextField label="Minimum" {...input("minimum")} inputMode="decimal" />}
      {isNumber && <TextField label="Maximum" {...input("maximum")} inputMode="decimal" />}
      {setting.type === "string" && (
        <TextField label="Allowed values" {...input("choices")} placeholder="any" hint="Separated by commas." />
      )}
      <TextField label="Description" {...input("description")} />
      <label class="check">
        <input
          type="checkbox"
          checked={setting.isSealed}
          onChange={(event) => change({ isSealed: event.currentTarget.checked, fallback: "" })}
        />{" "}
        Secret: encrypted, shown to nobody but the device
      </label>
      <div class="buttons">
        <button type="button" class="danger" onClick={remove}>
          Remove setting
        </button>
      </div>
    </div>
  );
}
