import { expect, test } from "vitest";

import {
  at,
  fieldsOf,
  isPlaceholder,
  mergePatch,
  parse,
  print,
  put,
  type Field,
  type JsonObject,
} from "../src/lib/fields.ts";
import { fromJson, toJson } from "../src/lib/json.ts";
import { concerns, refusalOf } from "../src/lib/refusal.ts";

const SCHEMA = {
  properties: {
    led: {
      properties: {
        brightness: { type: "integer", minimum: 0, maximum: 100, title: "Brightness" },
        color: { enum: ["red", "green", null] },
      },
    },
    on: { type: "boolean" },
    name: { type: "string" },
    plan: { type: "array" },
  },
};

function field(kind: Field["kind"]): Field {
  return { path: ["x"], name: "x", kind, description: "", choices: [], sealed: false };
}

test("the fields are those of the schema, then those that documents have besides", () => {
  const found = fieldsOf(SCHEMA, [], { led: { brightness: 5, blink: true }, extra: { deep: [1] } });
  expect(found.map(({ name, kind }) => [name, kind])).toEqual([
    ["led.brightness", "integer"],
    ["led.color", "choice"],
    ["on", "boolean"],
    ["name", "text"],
    ["plan", "json"],
    ["led.blink", "boolean"],
    ["extra.deep", "json"],
  ]);
  expect(found[0]?.description).toBe("Brightness · 0 to 100");
});

test("an object that the schema does not open is one field", () => {
  const schema = { properties: { wifi: { type: "object" } } };
  expect(fieldsOf(schema, [], { wifi: { ssid: "home" } }).map(({ name }) => name)).toEqual(["wifi"]);
});

test("a schema that is none, and one with names of JavaScript's own, make no trouble", () => {
  expect(fieldsOf({ properties: 5 }, [], {})).toEqual([]);
  expect(fieldsOf({ properties: { a: true } }, []).map(({ kind }) => kind)).toEqual(["json"]);
  expect(at({}, ["constructor", "name"])).toBeUndefined();
  expect(Object.keys(put({}, ["toString"], 1))).toEqual(["toString"]);
});

test("a value is put at its path, and taken away with what is empty without it", () => {
  const before = { a: 1, led: { brightness: 5 } };
  expect(put(before, ["led", "brightness"], 6)).toEqual({ a: 1, led: { brightness: 6 } });
  expect(put(before, ["led", "color"], "red")).toEqual({ a: 1, led: { brightness: 5, color: "red" } });
  expect(put(before, ["led", "brightness"], undefined)).toEqual({ a: 1 });
  expect(put(before, ["led", "brightness"], null)).toEqual({ a: 1, led: { brightness: null } });
  expect(before).toEqual({ a: 1, led: { brightness: 5 } });
});

test.each([
  ["text", "5", "5"],
  ["integer", "5", 5],
  ["integer", " 300 ", 300],
  ["boolean", "true", true],
  ["json", "[1]", [1]],
  ["number", "  ", undefined],
] as const)("a %s that is typed as %j is %j", (kind, text, value) => {
  expect(parse(field(kind), text)).toEqual({ value });
});

test("what is no value is told", () => {
  expect(parse(field("integer"), "many")).toEqual({ error: "is not a number" });
  expect(parse(field("json"), "{")).toEqual({ error: "is not JSON" });
});

test.each([
  ["text", "a b"],
  ["text", '"quoted"'],
  ["json", { a: [1] }],
  ["number", 1.5],
  ["choice", null],
] as const)("a %s is read back as it was printed: %j", (kind, value) => {
  expect(parse(field(kind), print(field(kind), value as never))).toEqual({ value });
});

test("a refusal is taken to its field", () => {
  const message = "configuration.led.brightness: 300 is greater than the maximum of 100";
  const refusal = refusalOf(message, "configuration");
  expect(refusal).toEqual({ field: "led.brightness", message: "300 is greater than the maximum of 100" });
  expect(concerns("led.brightness", refusal.field)).toBe(true);
  expect(concerns("led", refusal.field)).toBe(true);
  expect(concerns("led.bright", refusal.field)).toBe(false);
  expect(concerns("plan", refusalOf("configuration.plan[0]: no", "configuration").field)).toBe(true);
});

test("a refusal of the whole, or of something else, keeps its words", () => {
  expect(refusalOf("configuration: 'x' is a required property", "configuration")).toEqual({
    field: "",
    message: "'x' is a required property",
  });
  const other = "device: there is none";
  expect(refusalOf(other, "configuration")).toEqual({ field: "", message: other });
});

test.each([
  [{}, {}, {}],
  [{ a: 1, b: 2 }, { a: 1, b: 3 }, { b: 3 }],
  [{ a: 1 }, {}, { a: null }],
  [{ led: { x: 1, y: 2 } }, { led: { x: 1 } }, { led: { y: null } }],
  [{ led: { x: 1 } }, {}, { led: null }],
  [{}, { led: { x: [1, null] } }, { led: { x: [1, null] } }],
  [{ a: { b: 1 } }, { a: 1 }, { a: 1 }],
  [{ a: 1 }, { a: { b: 1 } }, { a: { b: 1 } }],
])("from %j to %j it takes %j", (before, after, patch) => {
  expect(mergePatch(before as JsonObject, after as JsonObject)).toEqual(patch);
});

test.each([{ a: null }, { led: { x: null } }])(
  "a null that shall be there (%j) is no change that can be merged",
  (after) => {
    expect(mergePatch({}, after)).toBeUndefined();
    expect(mergePatch(after, after)).toEqual({});
  },
);

test.each([
  "9007199254740993",
  "1.0",
  "-0.0",
  "1e400",
  "0.1234567890123456789",
  "1e-07",
  "100000000000000000000000",
])("the number %s is as it was in JSON, in a field and in a change", (digits) => {
  const text = `{"a":[1,${digits}],"b":{"c":${digits}}}`;
  const document = fromJson(text) as JsonObject;
  expect(toJson(document)).toBe(text);
  expect(fieldsOf(null, [], document).map(({ name, kind }) => [name, kind])).toEqual([
    ["a", "json"],
    ["b.c", "number"],
  ]);
  expect(print(field("number"), at(document, ["b", "c"]))).toBe(digits);
  const typed = parse(field("number"), digits);
  expect("value" in typed && toJson(typed.value)).toBe(digits);
  expect(mergePatch(document, fromJson(text) as JsonObject)).toEqual({});
  const other = fromJson(text.replaceAll(digits, "9007199254740992")) as JsonObject;
  expect(toJson(mergePatch(other, document))).toBe(text);
});

test("a number that JavaScript writes alike is a number", () => {
  expect(fromJson('{"a": [0, -1, 1.5, 9007199254740991, 1e+21]}')).toEqual({
    a: [0, -1, 1.5, 9007199254740991, 1e21],
  });
});

const PLACEHOLDER = "(sealed 3f9c2a71b04e)";

test("a setting is sealed by its place, by a place above it, or by what stands for its value", () => {
  const schema = { properties: { psk: { type: "string" }, pin: { $ref: "#/x" }, vault: {}, open: {} } };
  const documents = [{ pin: PLACEHOLDER, vault: { a: PLACEHOLDER } }, { deep: { list: PLACEHOLDER } }];
  const found = fieldsOf(schema, ["psk", "vault", "nets[].psk"], ...documents);
  expect(found.filter(({ sealed }) => sealed).map(({ name }) => name)).toEqual([
    "psk",
    "pin",
    "vault",
    "deep.list",
  ]);
});

test.each(["integer", "json", "choice", "boolean", "text"] as const)(
  "what stands for a sealed %s is saved as it came",
  (kind) => {
    expect(print(field(kind), PLACEHOLDER)).toBe(PLACEHOLDER);
    expect(parse(field(kind), PLACEHOLDER)).toEqual({ value: PLACEHOLDER });
  },
);

test.each(["(sealed)", "(sealed 3f9c2a71b04e) ", "(sealed 3F9C2A71B04E)", "sealed"])(
  "%j stands for nothing",
  (text) => {
    expect(isPlaceholder(text)).toBe(false);
  },
);

test("a secret of an unknown type is text unless it is JSON", () => {
  const secret = { ...field("json"), sealed: true };
  expect(parse(secret, "hunter2")).toEqual({ value: "hunter2" });
  expect(parse(secret, "[1]")).toEqual({ value: [1] });
});
