import type { ComponentChildren, InputHTMLAttributes } from "preact";
import { useState } from "preact/hooks";

import { RefusedError } from "../mqtt/asker.ts";
import { asObject } from "../lib/fields.ts";
import { fromJson, toJson } from "../lib/json.ts";
import { words } from "../lib/text.ts";
import type { Json } from "../protocol.ts";
import { useAction } from "../state/action.ts";
import { Dialog, Notice } from "./basics.tsx";
import { Button, type Needed } from "./Button.tsx";
import { Labelled, Outcome, SelectField, TextField } from "./fields.tsx";

/** How one parameter of an operation is asked for. */
export interface FieldSpec {
  readonly label: string;
  /** By default text. `words` is a list of them, `json` an object, `line` one that is short. */
  readonly kind?: "text" | "number" | "words" | "json" | "line" | "check";
  readonly hint?: string;
  readonly options?: readonly (readonly [value: string, text: string])[];
  /** The value that it has before; if the field is emptied, `empty` is sent. */
  readonly initial?: Json;
  readonly empty?: Json;
  readonly required?: boolean;
  readonly placeholder?: string;
  readonly min?: number;
  readonly max?: number;
  readonly maxLength?: number;
}

/** The parameters that a person gives; names are those of the request. */
export type Specs<Asked> = { readonly [Name in keyof Asked]?: FieldSpec };

interface Props<Asked> {
  readonly specs: Specs<Asked>;
  readonly verb: string;
  readonly isDanger?: boolean;
  readonly layout?: "line";
  /** What is asked before it is done, if anything. */
  readonly sure?: ((asked: Asked) => string) | undefined;
  readonly cancel?: () => void;
  /** Does it, and returns a message about what was done. */
  readonly run: (asked: Asked) => Promise<string | undefined>;
  readonly children?: ComponentChildren;
}

/** A form for the parameters of an operation; a refusal that names one of them is shown at its field. */
export function OperationForm<Asked extends object>(props: Props<Asked>) {
  const { specs, verb, isDanger, layout, sure, cancel, run, children } = props;
  const [checked, setChecked] = useState<{ readonly asked: Asked; readonly question: string }>();
  const [refusal, setRefusal] = useState<{ readonly name: string; readonly message: string }>();
  const action = useAction();
  const entries = Object.entries(specs) as [string, FieldSpec][];
  const onSubmit = (event: SubmitEvent) => {
    event.preventDefault();
    setRefusal(undefined);
    const form = new FormData(event.currentTarget as HTMLFormElement);
    void action.run(async () => {
      try {
        const asked = valuesOf(entries, form) as Asked;
        if (sure && !checked) {
          setChecked({ asked, question: sure(asked) });
          return undefined;
        }
        setChecked(undefined);
        return await run(checked?.asked ?? asked);
      } catch (error) {
        const [, name = "", message = ""] = /^(\w+)[^:]*: (.+)$/s.exec((error as Error).message) ?? [];
        if ((error instanceof RefusedError || error instanceof FieldError) && name in specs) {
          setRefusal({ name, message });
          return undefined;
        }
        throw error;
      }
    });
  };
  const onInput = () => {
    action.reset();
    setRefusal(undefined);
    setChecked(undefined);
  };
  return (
    <form class={layout ?? ""} onSubmit={onSubmit} onInput={onInput}>
      {entries.map(([name, spec]) => (
        <Field key={name} name={name} spec={spec} error={refusal?.name === name ? refusal.message : undefined} />
      ))}
      {children}
      {checked && <Notice tone="warn">{checked.question}</Notice>}
      {layout !== "line" && <Outcome action={action} />}
      <footer>
        {(checked ?? cancel) && (
          <button type="button" onClick={() => (checked ? setChecked(undefined) : cancel?.())}>
            Cancel
          </button>
        )}
        <button type="submit" class={isDanger ? "danger" : "primary"} disabled={action.busy}>
          {action.busy ? "Please wait…" : checked ? `Yes, ${verb.charAt(0).toLowerCase()}${verb.slice(1)}` : verb}
        </button>
      </footer>
      {layout === "line" && <Outcome action={action} />}
    </form>
  );
}

class FieldError extends Error {}

function Field({ name, spec, error }: { name: string; spec: FieldSpec; error: string | undefined }) {
  const { label, kind = "text", hint, options, initial, required, placeholder, min, max, maxLength } = spec;
  const text = textOf(initial);
  if (options) {
    const known =
      text === "" || options.some(([value]) => value === text) ? options : [[text, text] as const, ...options];
    return <SelectField label={label} hint={hint} error={error} name={name} options={known} initial={text} />;
  }
  if (kind === "check") {
    return (
      <label class="check">
        <input type="checkbox" name={name} defaultChecked={initial === true} /> {label}
      </label>
    );
  }
  if (kind === "json") {
    return (
      <Labelled label={label} hint={hint} error={error}>
        {(attributes) => (
          <textarea
            {...attributes}
            name={name}
            rows={8}
            spellcheck={false}
            defaultValue={text}
            required={required}
          />
        )}
      </Labelled>
    );
  }
  const input = {
    type: kind === "words" || kind === "line" ? "text" : kind,
    required,
    placeholder,
    min,
    max,
    maxLength,
    autocomplete: "off",
  } as InputHTMLAttributes;
  return (
    <TextField
      label={label}
      hint={hint}
      error={error}
      name={name}
      defaultValue={text}
      spellcheck={false}
      {...input}
    />
  );
}

function textOf(value: Json | undefined): string {
  if (value === undefined || value === null) {
    return "";
  }
  if (Array.isArray(value)) {
    return value.map((item) => (typeof item === "string" ? item : toJson(item))).join(" ");
  }
  return typeof value === "string" ? value : asObject(value) ? JSON.stringify(value, null, 2) : toJson(value);
}

function valuesOf(entries: readonly [string, FieldSpec][], form: FormData): Record<string, Json> {
  const values: Record<string, Json> = {};
  for (const [name, spec] of entries) {
    const given = form.get(name);
    const text = typeof given === "string" ? given.trim() : "";
    const value = spec.kind === "check" ? given !== null : text === "" ? spec.empty : valueOf(name, spec, text);
    if (value !== undefined) {
      values[name] = value;
    }
  }
  return values;
}

/** Parses the text of a field; throws a FieldError. */
function valueOf(name: string, { kind, label }: FieldSpec, text: string): Json {
  switch (kind) {
    case "words":
      return words(text);
    case "number":
      return Number(text);
    case "line":
    case "json": {
      let value: Json | undefined;
      try {
        value = asObject(fromJson(text));
      } catch (error) {
        throw new FieldError(`${name}: ${error instanceof Error ? error.message : "is not JSON"}`);
      }
      if (value === undefined) {
        throw new FieldError(`${name}: ${label} must be a JSON object, such as {"interval_s": 30}.`);
      }
      return value;
    }
    default:
      return text;
  }
}

interface ButtonProps {
  readonly label: ComponentChildren;
  /** The title of its dialog. */
  readonly title: string;
  /** What it asks for in the end: a button that the account may not use is off, and says why. */
  readonly needs: Needed;
  readonly tone?: "primary" | "danger";
  readonly children: (close: () => void) => ComponentChildren;
}

/** A button that opens a dialog. */
export function DialogButton({ label, title, needs, tone, children }: ButtonProps) {
  const [isOpen, open] = useState(false);
  const close = () => open(false);
  return (
    <>
      <Button needs={needs} class={tone ?? ""} onClick={() => open(true)}>
        {label}
      </Button>
      {isOpen && (
        <Dialog title={title} close={close}>
          {children(close)}
        </Dialog>
      )}
    </>
  );
}

interface ConfirmProps extends Omit<ButtonProps, "children"> {
  readonly verb: string;
  readonly run: () => Promise<string | undefined>;
  /** What will happen. */
  readonly children: ComponentChildren;
}

/** A button that asks before it acts; its dialog closes unless there is something to say. */
export function ConfirmButton({ verb, run, children, ...button }: ConfirmProps) {
  return (
    <DialogButton {...button}>
      {(close) => (
        <OperationForm<object>
          specs={{}}
          verb={verb}
          isDanger={button.tone === "danger"}
          cancel={close}
          run={async () => {
            const done = await run();
            if (done === undefined) {
              close();
            }
            return done;
          }}
        >
          <div>{children}</div>
        </OperationForm>
      )}
    </DialogButton>
  );
}
