import type { Json } from "../protocol.ts";
import { asObject, at, put, type JsonObject } from "./fields.ts";
import { fromJson, isNumber, toJson } from "./json.ts";

export const KINDS = ["boolean", "integer", "number", "string"] as const;

/** One setting of a model, as texts of a form. */
export interface Setting {
  /** Its path with dots. */
  readonly name: string;
  readonly type: (typeof KINDS)[number];
  readonly description: string;
  readonly minimum: string;
  readonly maximum: string;
  /** Allowed values, separated by commas; empty for any. */
  readonly choices: string;
  readonly fallback: string;
  readonly isSealed: boolean;
}

export const NEW_SETTING: Setting = {
  name: "",
  type: "integer",
  description: "",
  minimum: "",
  maximum: "",
  choices: "",
  fallback: "",
  isSealed: false,
};

const WORDS_OF_SETTINGS = new Set(["type", "description", "title", "minimum", "maximum", "enum", "writeOnly"]);
const WORDS_OF_OBJECTS = new Set(["$schema", "type", "properties", "additionalProperties"]);

/** The settings of a schema, or undefined if it says more than a form can. */
export function settingsOf(schema: JsonObject | null, defaults: JsonObject): Setting[] | undefined {
  const found: Setting[] = [];
  const isWhole = schema === null || collect(schema, [], defaults, found);
  const names = new Set(found.map(({ name }) => name));
  return isWhole && leaves(defaults, []).every((name) => names.has(name)) ? found : undefined;
}

function collect(schema: JsonObject, path: readonly string[], defaults: JsonObject, found: Setting[]): boolean {
  // What is not said is allowed: a form would forbid it.
  const { additionalProperties: more = true, properties = {} } = schema;
  if (more !== false || Object.keys(schema).some((word) => !WORDS_OF_OBJECTS.has(word))) {
    return false;
  }
  return Object.entries(asObject(properties) ?? {}).every(([name, inner]) => {
    const place = [...path, name];
    const property = asObject(inner) ?? {};
    if (name.includes(".")) {
      return false;
    }
    if (property.properties !== undefined) {
      return collect(property, place, defaults, found);
    }
    const type = KINDS.find((kind) => kind === property.type);
    if (type === undefined || Object.keys(property).some((word) => !WORDS_OF_SETTINGS.has(word))) {
      return false;
    }
    found.push({
      name: place.join("."),
      type,
      description: [property.title, property.description].filter((part) => typeof part === "string").join(": "),
      minimum: numberText(property.minimum),
      maximum: numberText(property.maximum),
      choices: Array.isArray(property.enum) ? property.enum.map(plain).join(", ") : "",
      fallback: plain(at(defaults, place)),
      isSealed: property.writeOnly === true,
    });
    return true;
  });
}

/** The schema and the defaults of settings; throws an Error that names a setting whose texts are wrong. */
export function schemaOf(settings: readonly Setting[]): { schema: JsonObject; defaults: JsonObject } {
  let schema: JsonObject = { type: "object", additionalProperties: false, properties: {} };
  let defaults: JsonObject = {};
  const names = new Set<string>();
  for (const setting of settings) {
    const path = setting.name.trim().split(".");
    if (path.some((part) => part === "")) {
      throw new Error("Each setting needs a name, such as interval_s or led.brightness.");
    }
    if (names.has(setting.name)) {
      throw new Error(`${setting.name} is there twice.`);
    }
    names.add(setting.name);
    path.slice(0, -1).forEach((_, index) => {
      const place = path.slice(0, index + 1).flatMap((part) => ["properties", part]);
      if (at(schema, place) === undefined) {
        schema = put(schema, place, { type: "object", additionalProperties: false, properties: {} });
      } else if (at(schema, [...place, "properties"]) === undefined) {
        throw new Error(`${setting.name} cannot be inside a setting that has a value.`);
      }
    });
    const place = path.flatMap((part) => ["properties", part]);
    if (at(schema, place) !== undefined) {
      throw new Error(`${setting.name} has a value and settings inside.`);
    }
    schema = put(schema, place, propertyOf(setting));
    if (setting.fallback.trim() !== "") {
      defaults = put(defaults, path, valueOf(setting, setting.fallback));
    }
  }
  return { schema, defaults };
}

function propertyOf(setting: Setting): JsonObject {
  const { type, description, choices, isSealed } = setting;
  const limit = (name: "minimum" | "maximum") =>
    setting[name].trim() !== "" && (type === "integer" || type === "number")
      ? { [name]: valueOf(setting, setting[name]) }
      : {};
  return {
    type,
    ...(description.trim() && { description: description.trim() }),
    ...limit("minimum"),
    ...limit("maximum"),
    ...(choices.trim() && { enum: choices.split(",").map((choice) => valueOf(setting, choice)) }),
    ...(isSealed && { writeOnly: true }),
  };
}

function valueOf({ name, type }: Setting, given: string): Json {
  const text = given.trim();
  if (type === "string") {
    return text;
  }
  let value: Json = null;
  try {
    value = fromJson(text);
  } catch {
    // said below
  }
  if (type === "boolean" ? typeof value !== "boolean" : !isNumber(value)) {
    throw new Error(`${name}: ${text} is not ${type === "boolean" ? "true or false" : "a number"}.`);
  }
  return value;
}

function leaves(document: JsonObject, path: readonly string[]): string[] {
  return Object.entries(document).flatMap(([name, value]) => {
    const inner = asObject(value);
    return inner === undefined ? [[...path, name].join(".")] : leaves(inner, [...path, name]);
  });
}

function plain(value: Json | undefined): string {
  return value === undefined ? "" : typeof value === "string" ? value : toJson(value);
}

function numberText(value: Json | undefined): string {
  return isNumber(value) ? toJson(value) : "";
}
