/**
 * Tables in text files as spreadsheets write them, by the rules of cli/spreadsheets.py: tests/spreadsheets.json has
 * the cases that both must read alike.
 */

const SEPARATORS = [",", ";", "\t"];
const ZIP = [0x50, 0x4b, 3, 4];
const UTF_8_MARK = [0xef, 0xbb, 0xbf];
const QUOTES = "has a quotation mark too many or too few";
const ENCODING = "is not in the encoding of the other lines";

/** A row by the names of its columns, or the fault in it; `number` is that of its first line in the file. */
export interface Row {
  readonly number: number;
  readonly fields: Readonly<Partial<Record<string, string>>>;
  readonly fault?: string;
}

type Line = string | undefined;

/** The lines of a text in UTF-8, UTF-16 with a byte order mark, or else Windows-1252; undefined: in another one. */
export function linesOf(file: Uint8Array): Line[] {
  if (startsWith(file, ZIP)) {
    throw new Error("The file is a workbook; save it as CSV.");
  }
  let data = file;
  if (startsWith(file, [0xff, 0xfe]) || startsWith(file, [0xfe, 0xff])) {
    const text = decoded(file, file[0] === 0xff ? "utf-16le" : "utf-16be");
    if (text === undefined) {
      throw new Error("The file begins as UTF-16, but is not.");
    }
    data = new TextEncoder().encode(text);
  }
  if (data.includes(0)) {
    throw new Error("The file must be text in UTF-8, UTF-16 with a byte order mark, or Windows-1252.");
  }
  const hasMark = startsWith(data, UTF_8_MARK);
  const lines = split(hasMark ? data.subarray(UTF_8_MARK.length) : data);
  const asUtf8 = lines.map((line) => decoded(line, "utf-8"));
  // No text of another encoding with an umlaut in it happens to be UTF-8.
  if (hasMark || !asUtf8.includes(undefined) || asUtf8.some((line) => /[^\0-\x7f]/.test(line ?? ""))) {
    return asUtf8;
  }
  return lines.map((line) => {
    const text = decoded(line, "windows-1252");
    return /[\x80-\x9f]/.test(text ?? "") ? undefined : text; // not assigned in Windows-1252
  });
}

/** The rows below the first line, which has the names of the columns; empty ones are left out. */
export function rowsOf(lines: readonly Line[], wanted: readonly string[]): { rows: Row[]; ignored: string[] } {
  let start = lines.findIndex((line) => line?.trim() !== "");
  start = start < 0 ? lines.length : start;
  const given = /^sep=(.)\s*$/i.exec(lines[start] ?? "")?.[1];
  start += given === undefined ? 0 : 1;
  const heading = lines[start] ?? "";
  const count = (separator: string) => heading.split(separator).length;
  const separator = given ?? SEPARATORS.reduce((best, other) => (count(other) > count(best) ? other : best));
  const names = (fieldsOf(heading, separator) ?? []).map((name) => name.toLowerCase().split(/\s+/).join(" "));
  if (!names.some((name) => wanted.includes(name))) {
    throw new Error(`The first line of the file must name the columns: ${wanted.join(", ")}.`);
  }
  const twice = wanted.find((name) => names.indexOf(name) !== names.lastIndexOf(name));
  if (twice !== undefined) {
    throw new Error(`The first line of the file has the column ${twice} twice.`);
  }
  const rows: Row[] = [];
  for (start += 1; start < lines.length;) {
    let [row, end] = rowAt(lines, start, names, separator);
    if (wanted.some((name) => row.fields[name]?.includes("\n"))) {
      [row, end] = [{ number: row.number, fields: {}, fault: QUOTES }, start + 1];
    }
    if (row.fault !== undefined || Object.values(row.fields).some(Boolean)) {
      rows.push(row);
    }
    start = end;
  }
  return { rows, ignored: names.filter((name) => name !== "" && !wanted.includes(name)) };
}

/** The row that begins at this index, and the index behind it. */
function rowAt(lines: readonly Line[], start: number, names: readonly string[], separator: string): [Row, number] {
  const number = start + 1;
  let joined = lines[start];
  let end = start + 1;
  if (joined === undefined) {
    return [{ number, fields: {}, fault: ENCODING }, end];
  }
  while (joined !== undefined && (joined.split('"').length - 1) % 2 === 1 && end < lines.length) {
    const following: Line = lines[end];
    joined = following === undefined ? undefined : `${joined}\n${following}`;
    end += 1;
  }
  const fields = joined === undefined ? undefined : fieldsOf(joined, separator);
  if (fields === undefined) {
    return [{ number, fields: {}, fault: QUOTES }, start + 1];
  }
  if (fields.slice(names.length).some(Boolean)) {
    const fault = `has ${fields.length} fields, but the first line ${names.length}`;
    return [{ number, fields: {}, fault }, end];
  }
  return [{ number, fields: Object.fromEntries(names.map((name, at) => [name, fields[at] ?? ""])) }, end];
}

/** The fields of a row (RFC 4180), or undefined if its quotation marks are wrong. */
function fieldsOf(row: string, separator: string): string[] | undefined {
  const quoted = /"((?:[^"]|"")*)"/y;
  const fields: string[] = [];
  for (let at = 0; ; at += 1) {
    if (row[at] === '"') {
      quoted.lastIndex = at;
      const [, field] = quoted.exec(row) ?? [];
      if (field === undefined) {
        return undefined;
      }
      fields.push(field.replaceAll('""', '"').trim());
      at = quoted.lastIndex;
    } else {
      const end = row.indexOf(separator, at);
      const field = row.slice(at, end < 0 ? undefined : end);
      if (field.includes("\n")) {
        return undefined;
      }
      fields.push(field.trim());
      at = end < 0 ? row.length : end;
    }
    if (at >= row.length) {
      return fields;
    }
    if (row[at] !== separator) {
      return undefined;
    }
  }
}

function split(data: Uint8Array): Uint8Array[] {
  const lines: Uint8Array[] = [];
  let start = 0;
  for (let at = 0; at < data.length; at += 1) {
    if (data[at] === 10 || data[at] === 13) {
      lines.push(data.subarray(start, at));
      at += data[at] === 13 && data[at + 1] === 10 ? 1 : 0;
      start = at + 1;
    }
  }
  return start < data.length ? [...lines, data.subarray(start)] : lines;
}

function decoded(data: Uint8Array, encoding: string): Line {
  try {
    return new TextDecoder(encoding, { fatal: true }).decode(data).normalize("NFC");
  } catch {
    return undefined;
  }
}

function startsWith(data: Uint8Array, bytes: readonly number[]): boolean {
  return bytes.every((byte, at) => data[at] === byte);
}
