import { describe, expect, test } from "vitest";

import { devicesIn, tableOf } from "../src/lib/imports.ts";
import cases from "../../tests/spreadsheets.json";

const MODELS = ["lamp", "fan"];

interface Case {
  readonly about: string;
  readonly text: string;
  readonly encoding?: string;
  readonly rows?: readonly (readonly unknown[])[];
  readonly error?: string;
}

function bytes({ text, encoding }: Case): Uint8Array {
  return Buffer.from(text, encoding === "utf-16-le" ? "utf16le" : ((encoding ?? "utf8") as BufferEncoding));
}

describe("a file is read as mdm reads it", () => {
  test.each(cases as Case[])("$about", (given) => {
    if (given.error !== undefined) {
      expect(() => devicesIn(bytes(given), "fan", MODELS)).toThrow(given.error);
      return;
    }
    const { lines } = devicesIn(bytes(given), "fan", MODELS);
    expect(
      lines.map(({ number, model, name, tags, fault }) =>
        fault === undefined ? [number, model, name, tags] : [number, fault],
      ),
    ).toEqual(given.rows);
  });
});

test("what the services would refuse is said before", () => {
  const file = Buffer.from(`model,name,tags\nlamb,hall,\n,stairs,\nlamp,attic,no/tag\nlamp,${"x".repeat(201)},\n`);
  expect(devicesIn(file, "", MODELS).lines.map(({ fault }) => fault)).toEqual([
    "model: there is no lamb",
    "model: is missing; choose the model of lines without one",
    "tags: no/tag must be 1 to 50 of a-z, A-Z, 0-9, -, _, . and :",
    "name: must have at most 200 characters",
  ]);
});

test("the table has each line with its outcome", () => {
  const { lines } = devicesIn(Buffer.from('name,tags\n"hall, left",a b\n,x\nstairs,\n'), "lamp", MODELS);
  const table = tableOf(lines, new Map([[2, { result: "added", clientId: "iotdevice-lamp-1" }]]));
  expect(table.split("\r\n")).toEqual([
    "line,client_id,result,model,name,tags,reason",
    '2,iotdevice-lamp-1,added,lamp,"hall, left",a b,',
    "3,,refused,lamp,,x,name: must not be empty; it identifies the device if the file is imported again",
    "4,,not done,lamp,stairs,,",
    "",
  ]);
});
