/** Why a service refused a request, and which field of it that is about. */
export interface Refusal {
  /** The field's path with dots, "" when it is about the whole. */
  readonly field: string;
  readonly message: string;
}

const NAMED = /^([a-z][a-z0-9_ ]*?)((?:\.[^:[\]]+?|\[\d+\])*): (.+)$/s;

/** Takes `overrides.led.brightness: 300 is greater than ...` apart; `root` is the part of the request. */
export function refusalOf(message: string, root: string): Refusal {
  const [, start, path = "", rule = message] = NAMED.exec(message) ?? [];
  if (start !== root) {
    return { field: "", message };
  }
  return { field: path.replace(/^\./, ""), message: rule };
}

/** Whether a refusal at `refused` is about the field: itself, or what is inside of it. */
export function concerns(field: string, refused: string): boolean {
  return refused === field || refused.startsWith(`${field}.`) || refused.startsWith(`${field}[`);
}
