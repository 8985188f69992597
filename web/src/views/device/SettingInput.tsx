import { useState } from "preact/hooks";

import { Labelled, type FieldAttributes } from "../../components/fields.tsx";
import { isPlaceholder, type Field } from "../../lib/fields.ts";
import { toJson } from "../../lib/json.ts";
import { show } from "../../lib/text.ts";
import type { Json } from "../../protocol.ts";

interface Props {
  readonly field: Field;
  /** The value from the model and the layers, if known. */
  readonly inherited: Json | undefined;
  /** Where its value comes from. */
  readonly source: string;
  readonly text: string;
  readonly error: string | undefined;
  readonly onText: (text: string) => void;
}

/** One setting; empty means the value from the model and the layers. */
export function SettingInput({ field, inherited, source, text, error, onText }: Props) {
  // Of an object the members are sealed, each by itself: it is edited as JSON.
  const [hasMembers] = useState(text.startsWith("{"));
  const rest = text !== "" || inherited === undefined ? "" : isPlaceholder(inherited) ? "set" : show(inherited);
  return (
    <Labelled
      label={field.name}
      hint={[field.description, source].filter(Boolean).join(" · ") || undefined}
      error={error}
    >
      {(attributes) => {
        const choices = field.kind === "boolean" ? [true, false] : field.choices;
        if (field.sealed && choices.length === 0 && !hasMembers) {
          return (
            <SecretInput
              attributes={attributes}
              isInherited={inherited !== undefined}
              text={text}
              onText={onText}
            />
          );
        }
        if (choices.length > 0) {
          return (
            <select {...attributes} value={text} onChange={(event) => onText(event.currentTarget.value)}>
              <option value="">{rest ? `default (${rest})` : "default"}</option>
              {isPlaceholder(text) && <option value={text}>set</option>}
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

interface SecretProps {
  readonly attributes: FieldAttributes;
  readonly isInherited: boolean;
  readonly text: string;
  readonly onText: (text: string) => void;
}

/** A setting that nobody is shown: it is kept, replaced or cleared. An input that is emptied again keeps it. */
function SecretInput({ attributes, isInherited, text, onText }: SecretProps) {
  const [kept, setKept] = useState(isPlaceholder(text) ? text : "");
  const isKept = isPlaceholder(text);
  return (
    <div class="secret">
      <input
        {...attributes}
        type="password"
        autocomplete="new-password"
        placeholder={isKept ? "set" : isInherited ? "set by its layers or its model" : "not set"}
        value={isKept ? "" : text}
        onInput={(event) => onText(event.currentTarget.value || kept)}
      />
      {text !== "" && (
        <button
          type="button"
          onClick={() => {
            setKept("");
            onText("");
          }}
        >
          Clear
        </button>
      )}
    </div>
  );
}
