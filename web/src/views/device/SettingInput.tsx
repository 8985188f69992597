import { Labelled } from "../../components/fields.tsx";
import type { Field } from "../../lib/fields.ts";
import { toJson } from "../../lib/json.ts";
import { show } from "../../lib/text.ts";
import type { Json } from "../../protocol.ts";

interface Props {
  readonly field: Field;
  /** The value from the model and the layers, if known. */
  readonly inherited: Json | undefined;
  readonly text: string;
  readonly error: string | undefined;
  readonly onText: (text: string) => void;
}

/** One setting; empty means the value from the model and the layers. */
export function SettingInput({ field, inherited, text, error, onText }: Props) {
  const rest = text === "" && inherited !== undefined ? show(inherited) : "";
  return (
    <Labelled label={field.name} hint={field.description || undefined} error={error}>
      {(attributes) => {
        const choices = field.kind === "boolean" ? [true, false] : field.choices;
        if (choices.length > 0) {
          return (
            <select {...attributes} value={text} onChange={(event) => onText(event.currentTarget.value)}>
              <option value="">{rest ? `default (${rest})` : "default"}</option>
              {choices.map((choice) => (
                <option key={toJson(choice)} value={toJson(choice)}>
                  {show(choice)}
                </option>
              ))}
            </select>
          );
        }
        return (
          <input
            {...attributes}
            inputMode={field.kind === "integer" ? "numeric" : field.kind === "number" ? "decimal" : "text"}
            spellcheck={false}
            placeholder={rest}
            value={text}
            onInput={(event) => onText(event.currentTarget.value)}
          />
        );
      }}
    </Labelled>
  );
}
