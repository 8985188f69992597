import type { ComponentChildren, InputHTMLAttributes, TargetedEvent } from "preact";
import { useId } from "preact/hooks";

import { Failed, Notice } from "./basics.tsx";
import type { Action } from "../state/action.ts";

interface LabelledProps {
  readonly label: string;
  readonly hint?: string | undefined;
  readonly error?: string | undefined;
}

/** An input with its label, and its hint or error below. */
export function TextField({ label, hint, error, ...input }: LabelledProps & InputHTMLAttributes) {
  return (
    <Labelled label={label} hint={hint} error={error}>
      {(attributes) => <input {...attributes} {...input} />}
    </Labelled>
  );
}

/** A choice; with `initial` the form keeps what was selected. */
export function SelectField({ label, hint, error, options, initial, ...select }: SelectProps) {
  return (
    <Labelled label={label} hint={hint} error={error}>
      {(attributes) => (
        <select {...attributes} {...select}>
          {options.map(([value, text]) => (
            <option key={value} value={value} selected={initial === undefined ? undefined : value === initial}>
              {text}
            </option>
          ))}
        </select>
      )}
    </Labelled>
  );
}

interface SelectProps extends LabelledProps {
  readonly options: readonly (readonly [value: string, text: string])[];
  readonly value?: string;
  readonly initial?: string;
  readonly name?: string;
  readonly onChange?: (event: TargetedEvent<HTMLSelectElement>) => void;
}

export interface FieldAttributes {
  readonly id: string;
  readonly "aria-describedby": string | undefined;
  readonly "aria-invalid": boolean;
}

export function Labelled({ label, hint, error, children }: LabelledProps & { children: Content }) {
  const id = useId();
  const about = error ?? hint;
  const attributes = { id, "aria-describedby": about ? `${id}-about` : undefined, "aria-invalid": Boolean(error) };
  return (
    <div class="field">
      <label for={id}>{label}</label>
      {children(attributes)}
      {about && (
        <small id={`${id}-about`} class={error ? "error" : ""} role={error ? "alert" : undefined}>
          {about}
        </small>
      )}
    </div>
  );
}

type Content = (attributes: FieldAttributes) => ComponentChildren;

/** The result of an action, next to its controls. */
export function Outcome({ action }: { action: Action }) {
  return (
    <>
      {action.error && <Failed error={action.error} />}
      {action.done && <Notice tone="good">{action.done}</Notice>}
    </>
  );
}
