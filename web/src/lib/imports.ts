import { linesOf, rowsOf } from "./spreadsheet.ts";

export const COLUMNS = ["model", "name", "tags"] as const;
const NAME_MAX = 200;
const TAG = /^[a-zA-Z0-9_.:-]{1,50}$/;

/** A line of an import: a device, or why it cannot be added. */
export interface ImportLine {
  readonly number: number;
  readonly model: string;
  readonly name: string;
  readonly tags: readonly string[];
  readonly fault?: string;
}

/** What became of a line. */
export interface ImportOutcome {
  readonly result: "added" | "present" | "refused";
  readonly clientId?: string;
  readonly reason?: string;
}

/** The devices in a CSV file; throws an Error for what is no table. `model` is that of lines without one. */
export function devicesIn(
  file: Uint8Array,
  model: string,
  models: readonly string[],
): { lines: ImportLine[]; ignored: string[] } {
  const { rows, ignored } = rowsOf(linesOf(file), COLUMNS);
  const known = new Map<string, number>();
  const lines = rows.map(({ number, fields, fault }): ImportLine => {
    const line = {
      number,
      model: fields.model || model,
      name: fields.name ?? "",
      tags: (fields.tags ?? "").split(/[\s,;]+/).filter(Boolean),
    };
    const wrong = fault ?? faultOf(line, models);
    if (wrong !== undefined) {
      return { ...line, fault: wrong };
    }
    const key = `${line.model} ${line.name}`;
    const earlier = known.get(key);
    known.set(key, earlier ?? number);
    return earlier === undefined ? line : { ...line, fault: `name: is that of line ${earlier} too` };
  });
  return { lines, ignored };
}

/** What can be known before it is asked for. */
function faultOf({ model, name, tags }: ImportLine, models: readonly string[]): string | undefined {
  if (name === "") {
    return "name: must not be empty; it identifies the device if the file is imported again";
  }
  if (name.length > NAME_MAX) {
    return `name: must have at most ${NAME_MAX} characters`;
  }
  if (!models.includes(model)) {
    return model === ""
      ? "model: is missing; choose the model of lines without one"
      : `model: there is no ${model}`;
  }
  const wrong = tags.find((tag) => !TAG.test(tag));
  return wrong === undefined ? undefined : `tags: ${wrong} must be 1 to 50 of a-z, A-Z, 0-9, -, _, . and :`;
}

/** The lines with what became of them, as `mdm device import --output` writes it. */
export function tableOf(lines: readonly ImportLine[], outcomes: ReadonlyMap<number, ImportOutcome>): string {
  const rows = lines.map(({ number, model, name, tags, fault }) => {
    const {
      result,
      clientId = "",
      reason = "",
    } = outcomes.get(number) ?? {
      result: fault === undefined ? "not done" : "refused",
      reason: fault,
    };
    return [String(number), clientId, result, model, name, tags.join(" "), reason];
  });
  const head = ["line", "client_id", "result", ...COLUMNS, "reason"];
  return [head, ...rows].map((row) => `${row.map(quoted).join(",")}\r\n`).join("");
}

function quoted(field: string): string {
  return /[",\r\n]/.test(field) ? `"${field.replaceAll('"', '""')}"` : field;
}
