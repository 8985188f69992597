import { useEffect, useRef, useState } from "preact/hooks";

import { Answered, Notice, Panel } from "../../components/basics.tsx";
import { Button } from "../../components/Button.tsx";
import { Labelled, Outcome } from "../../components/fields.tsx";
import {
  asObject,
  at,
  fieldsOf,
  mergePatch,
  parse,
  print,
  put,
  type Field,
  type JsonObject,
} from "../../lib/fields.ts";
import { fromJson, toJson } from "../../lib/json.ts";
import { concerns, refusalOf, type Refusal } from "../../lib/refusal.ts";
import {
  CONFIG_GET,
  CONFIG_SET,
  LAYER_LIST,
  MODEL_LIST,
  type ConfigView,
  type LayerView,
} from "../../protocol.ts";
import { useAction, type Action } from "../../state/action.ts";
import { useQuery } from "../../state/query.ts";
import { ask } from "../../state/session.ts";
import { RefusedError } from "../../mqtt/asker.ts";
import { SettingInput } from "./SettingInput.tsx";

interface Props {
  readonly device: string;
  readonly model: string;
  readonly version: number;
  readonly tags: readonly string[];
}

/** A version saved by somebody else in the meantime is reported, and keeps the input. */
export function Configuration({ device, model, version, tags }: Props) {
  const [base, setBase] = useState(version);
  const action = useAction();
  const query = useQuery(`configuration ${device} ${base} ${tags.join(" ")}`, async () => {
    const [config, { models }, { layers }] = await Promise.all([
      ask(CONFIG_GET, { device, version: base }),
      ask(MODEL_LIST, {}),
      ask(LAYER_LIST, {}),
    ]);
    const found = models.find(({ code }) => code === model);
    const of = layers.filter(({ tag }) => tags.includes(tag));
    return { config, layers: of, schema: found?.config_schema ?? null, sealed: found?.sealed ?? [] };
  });
  return (
    <Panel title="Configuration">
      {version > base && !action.busy && (
        <Notice tone="warn">
          Version {version} was saved in the meantime; this is version {base}.
          <button type="button" onClick={() => setBase(version)}>
            Load version {version}
          </button>
        </Notice>
      )}
      <Answered query={query}>
        {({ config, layers, schema, sealed }) => (
          <Editor
            key={config.version}
            config={config}
            layers={layers}
            schema={schema}
            sealed={sealed}
            action={action}
            saved={setBase}
          />
        )}
      </Answered>
      <Outcome action={action} />
    </Panel>
  );
}

interface EditorProps {
  readonly config: ConfigView;
  /** Those of its tags, in the order in which they apply. */
  readonly layers: readonly LayerView[];
  readonly schema: JsonObject | null;
  readonly sealed: readonly string[];
  readonly action: Action;
  readonly saved: (version: number) => void;
}

/** Edits the overrides of a device; empty settings come from its layers and its model. */
function Editor({ config, layers, schema, sealed, action, saved }: EditorProps) {
  const fields = fieldsOf(schema, sealed, config.document, config.overrides);
  const [texts, setTexts] = useState<Record<string, string>>(() => textsOf(fields, config.overrides));
  const [json, setJson] = useState<string>();
  const [refusal, setRefusal] = useState<Refusal>();
  const form = useRef<HTMLFormElement>(null);
  const asJson = json !== undefined || fields.length === 0;

  useEffect(() => {
    if (refusal !== undefined) {
      form.current?.querySelector<HTMLElement>('[aria-invalid="true"]')?.focus();
    }
  }, [refusal]);

  const overrides = () => (asJson ? parsed(json ?? "{}") : assembled(fields, texts, config.overrides));
  const onSubmit = (event: SubmitEvent) => {
    event.preventDefault();
    setRefusal(undefined);
    void action.run(async () => {
      const wanted = overrides();
      if ("field" in wanted) {
        setRefusal(wanted);
        return undefined;
      }
      try {
        const set = await ask(CONFIG_SET, {
          device: config.client_id,
          ...changeOf(config, wanted.document, asJson),
        });
        saved(set.version);
        return set.changed ? `Version ${set.version} was pushed to the device.` : "No changes.";
      } catch (error) {
        if (error instanceof RefusedError && error.code === "invalid") {
          setRefusal(refusalOf(error.message, "configuration"));
          return undefined;
        }
        throw error;
      }
    });
  };
  const toggle = () => {
    const wanted = overrides();
    if ("field" in wanted) {
      setRefusal(wanted);
      return;
    }
    setRefusal(undefined);
    setTexts(textsOf(fields, wanted.document));
    setJson(asJson ? undefined : toJson(wanted.document, 2));
  };
  const elsewhere = refusal && !(fields.some(({ name }) => concerns(name, refusal.field)) && !asJson);
  return (
    <form ref={form} onSubmit={onSubmit} class="editor" noValidate>
      {asJson ? (
        <Labelled
          label="Overrides of this device, as JSON"
          hint="All other settings come from the layers of its tags and the defaults of its model. What stands for a secret, such as (sealed 3f9c2a71b04e), keeps it."
          error={refusal && sentence(refusal)}
        >
          {(attributes) => (
            <textarea
              {...attributes}
              rows={12}
              spellcheck={false}
              value={json ?? "{}"}
              onInput={(event) => setJson(event.currentTarget.value)}
            />
          )}
        </Labelled>
      ) : (
        fields.map((field) => (
          <SettingInput
            key={field.name}
            field={field}
            inherited={
              at(config.overrides, field.path) === undefined ? at(config.document, field.path) : undefined
            }
            text={texts[field.name] ?? ""}
            source={sourceOf(field, config, layers)}
            error={refusal && concerns(field.name, refusal.field) ? refusal.message : undefined}
            onText={(text) => setTexts({ ...texts, [field.name]: text })}
          />
        ))
      )}
      {elsewhere && !asJson && (
        <p role="alert" class="notice bad">
          {sentence(refusal)}
        </p>
      )}
      <footer>
        {fields.length > 0 && (
          <button type="button" onClick={toggle}>
            {asJson ? "Edit as a form" : "Edit as JSON"}
          </button>
        )}
        <Button needs={CONFIG_SET} type="submit" class="primary" disabled={action.busy}>
          {action.busy ? "Saving…" : "Save and push"}
        </Button>
      </footer>
    </form>
  );
}

/** Where the value of a setting comes from: the device, a layer, or the defaults of its model. */
function sourceOf({ path }: Field, { overrides, document }: ConfigView, layers: readonly LayerView[]): string {
  if (at(document, path) === undefined) {
    return "";
  }
  if (at(overrides, path) !== undefined) {
    return "set for this device";
  }
  const layer = layers.findLast((one) => at(one.document, path) !== undefined);
  return layer ? `from the layer ${layer.tag}` : "the model's default";
}

/** A form sends only its changes, so that others' changes are kept; JSON replaces all overrides of the version shown. */
function changeOf({ overrides, version }: ConfigView, wanted: JsonObject, whole: boolean) {
  const patch = whole ? undefined : mergePatch(overrides, wanted);
  return patch === undefined
    ? { overrides: wanted, replace: true, expected_version: version }
    : { overrides: patch };
}

function sentence({ field, message }: Refusal): string {
  return field ? `${field}: ${message}` : message;
}

function textsOf(fields: readonly Field[], overrides: JsonObject): Record<string, string> {
  return Object.fromEntries(fields.map((field) => [field.name, print(field, at(overrides, field.path))]));
}

function assembled(fields: readonly Field[], texts: Record<string, string>, before: JsonObject): Wanted {
  let document = before;
  for (const field of fields) {
    const found = parse(field, texts[field.name] ?? "");
    if ("error" in found) {
      return { field: field.name, message: found.error };
    }
    document = put(document, field.path, found.value);
  }
  return { document };
}

function parsed(text: string): Wanted {
  try {
    const document = asObject(fromJson(text));
    return document === undefined ? { field: "", message: "must be a JSON object" } : { document };
  } catch (error) {
    return { field: "", message: error instanceof Error ? error.message : "is not JSON" };
  }
}

type Wanted = Refusal | { readonly document: JsonObject };
