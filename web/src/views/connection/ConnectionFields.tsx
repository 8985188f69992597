import { useState } from "preact/hooks";

import { Labelled, SelectField, TextField } from "../../components/fields.tsx";
import type { TextName, Texts } from "../../lib/connectionForm.ts";
import { valueText } from "../../lib/connections.ts";
import type { ConnectionLayerView, ConnectionView } from "../../protocol.ts";

const MAX_FILE_BYTES = 65_536;

interface Props {
  readonly view: ConnectionView;
  readonly layer: ConnectionLayerView | undefined;
  readonly hasPriority: boolean;
  readonly texts: Texts;
  readonly errorOf: (name: string) => string | undefined;
  readonly change: (part: Partial<Texts>) => void;
}

/** All values of a layer but Wi-Fi; where it says nothing, the value of the layers below is shown. */
export function ConnectionFields({ view, layer, hasPriority, texts, errorOf, change }: Props) {
  const below = (name: string) => {
    const found = view.values.find(({ field }) => field === name);
    return found && layer?.document[name] === undefined ? valueText(found, view) : "";
  };
  const input = (name: TextName) => ({
    value: texts[name],
    error: errorOf(name),
    placeholder: below(name),
    spellcheck: false,
    autocomplete: "off",
    onInput: (event: { currentTarget: HTMLInputElement }) => change({ [name]: event.currentTarget.value }),
  });
  const select = (name: TextName, choices: readonly (readonly [string, string])[]) => ({
    value: texts[name],
    error: errorOf(name),
    options: [
      ["", below(name) ? `as the layers below (${below(name)})` : "as the layers below"] as const,
      ...choices,
    ],
    onChange: (event: { currentTarget: HTMLSelectElement }) => change({ [name]: event.currentTarget.value }),
  });
  const port = { type: "number", min: 1, max: 65_535 } as const;
  return (
    <div class="editor grid">
      <TextField label="Host" {...input("mqtt_host")} />
      <TextField label="Port" {...input("mqtt_port")} {...port} />
      <SelectField
        label="TLS"
        {...select("mqtt_tls", [
          ["true", "yes"],
          ["false", "no"],
        ])}
      />
      <SelectField
        label="Login with"
        {...select("mqtt_auth", [
          ["password", "password"],
          ["token", "token"],
        ])}
      />
      <TextField label="Token URL" {...input("token_url")} />
      <TextField label="Recovery port" {...input("recovery_port")} {...port} />
      <TextField
        label="Trial in seconds"
        hint="Time for a device to connect before it goes back."
        {...input("trial_seconds")}
        placeholder={layer?.trial_seconds ? "" : String(view.trial_seconds)}
        type="number"
        min={1}
        max={86_400}
      />
      {hasPriority && (
        <TextField
          label="Priority"
          hint="Among layers of tags, the highest takes precedence."
          {...input("priority")}
          type="number"
          required
        />
      )}
      <Authorities
        text={texts.ca_certificate}
        below={below("ca_certificate")}
        pemBelow={String(view.values.find(({ field }) => field === "ca_certificate")?.value ?? "")}
        error={errorOf("ca_certificate")}
        change={(text) => change({ ca_certificate: text })}
      />
    </div>
  );
}

interface AuthoritiesProps {
  readonly text: string;
  readonly below: string;
  readonly pemBelow: string;
  readonly error: string | undefined;
  readonly change: (text: string) => void;
}

/** The authorities of a layer as PEM, to which those of files and of the layers below can be added. */
function Authorities({ text, below, pemBelow, error, change }: AuthoritiesProps) {
  const [fault, setFault] = useState<string>();
  const add = (pem: string) => change(text.trim() ? `${text.trim()}\n${pem}` : pem);
  const onFiles = async (event: { currentTarget: HTMLInputElement }) => {
    const input = event.currentTarget;
    const files = [...(input.files ?? [])];
    const large = files.find(({ size }) => size > MAX_FILE_BYTES);
    setFault(large && `${large.name} is larger than 64 KiB`);
    if (!large) {
      add((await Promise.all(files.map((file) => file.text()))).join("\n"));
    }
    input.value = "";
  };
  return (
    <>
      <Labelled
        label="Authorities"
        hint={`PEM of all authorities to trust, instead of those of the layers below${below && `: ${below}`}.`}
        error={error}
      >
        {(attributes) => (
          <textarea
            {...attributes}
            rows={4}
            spellcheck={false}
            value={text}
            onInput={(event) => change(event.currentTarget.value)}
          />
        )}
      </Labelled>
      <TextField
        label="Add authorities from files"
        type="file"
        multiple
        accept=".pem,.crt,.cer"
        error={fault}
        onChange={onFiles}
      />
      {below && (
        <div class="buttons">
          <button type="button" onClick={() => add(pemBelow)}>
            Add those of the layers below
          </button>
        </div>
      )}
    </>
  );
}
