/** The reason of a refused request, and the field that it is about. */
export interface Refusal {
  /** The field's path with dots; "" for the whole document. */
  readonly field: string;
  readonly message: string;
}

const NAMED = /^([a-z][a-z0-9_ ]*?)((?:\.[^:[\]]+?|\[\d+\])*): (.+)$/s;

/** Parses `overrides.led.brightness: 300 is greater than ...`; `root` is the part of the request. */
export function refusalOf(message: string, root: string): Refusal {
  const [, start, path = "", rule = message] = NAMED.exec(message) ?? [];
  if (start !== root) {
    return { field: "", message };
  }
  return { field: path.replace(/^\./, ""), message: rule };
}

/** Whether a refusal at `refused` is about the field or something inside it. */
export function concerns(field: string, refused: string): boolean {
  return refused === field || refused.startsWith(`${field}.`) || refused.startsWith(`${field}[`);
}
