import type { Json } from "../protocol.ts";
import { fromJson, isNumber, toJson } from "./json.ts";

export type JsonObject = Record<string, Json>;
export type Kind = "boolean" | "integer" | "number" | "text" | "choice" | "json";

/** A setting of a device's configuration. */
export interface Field {
  readonly path: readonly string[];
  /** The path with dots, as in `mdm` and in messages of the services. */
  readonly name: string;
  readonly kind: Kind;
  readonly description: string;
  readonly choices: readonly Json[];
  /** Whether its value is not shown. */
  readonly sealed: boolean;
}

/** What stands for a sealed value; saved, it keeps the value. */
export function isPlaceholder(value: Json | undefined): value is string {
  return typeof value === "string" && /^\(sealed [0-9a-f]{12}\)$/.test(value);
}

/** The settings in a schema, then those in documents; `sealed` are the names of places that are sealed with all below. */
export function fieldsOf(
  schema: JsonObject | null,
  sealed: readonly string[],
  ...documents: JsonObject[]
): Field[] {
  const found = new Map<string, Field>();
  const add = (field: Field) => found.has(field.name) || found.set(field.name, field);
  schemaFields(schema ?? {}, [], add);
  for (const document of documents) {
    documentFields(document, [], add);
  }
  // If an object is one setting, its members are not.
  return [...found.values()]
    .filter(({ path }) => !path.some((_, end) => end > 0 && found.has(path.slice(0, end).join("."))))
    .map((field) => ({ ...field, sealed: isSealed(field, sealed, documents) }));
}

function isSealed({ name, path }: Field, places: readonly string[], documents: readonly JsonObject[]): boolean {
  return (
    places.some((place) => name === place || name.startsWith(`${place}.`)) ||
    documents.some((document) => isPlaceholder(at(document, path)))
  );
}

function schemaFields(schema: JsonObject, path: readonly string[], add: (field: Field) => void): void {
  for (const [name, inner] of Object.entries(asObject(schema.properties) ?? {})) {
    const property = asObject(inner) ?? {};
    const place = [...path, name];
    if (asObject(property.properties) !== undefined) {
      schemaFields(property, place, add);
    } else {
      add(fieldOf(place, kindOf(property), property));
    }
  }
}

function documentFields(document: JsonObject, path: readonly string[], add: (field: Field) => void): void {
  for (const [name, value] of Object.entries(document)) {
    const place = [...path, name];
    const inner = asObject(value);
    if (inner !== undefined && Object.keys(inner).length > 0) {
      documentFields(inner, place, add);
    } else {
      add(fieldOf(place, kindOfValue(value), {}));
    }
  }
}

function fieldOf(path: readonly string[], kind: Kind, schema: JsonObject): Field {
  const description = [schema.title, schema.description, limits(schema)].filter(
    (part): part is string => typeof part === "string" && part !== "",
  );
  const choices = Array.isArray(schema.enum) ? schema.enum : [];
  return { path, name: path.join("."), kind, description: description.join(" · "), choices, sealed: false };
}

function limits({ minimum, maximum }: JsonObject): string {
  if (isNumber(minimum) && isNumber(maximum)) {
    return `${toJson(minimum)} to ${toJson(maximum)}`;
  }
  return isNumber(minimum) ? `at least ${toJson(minimum)}` : isNumber(maximum) ? `at most ${toJson(maximum)}` : "";
}

function kindOf(schema: JsonObject): Kind {
  if (Array.isArray(schema.enum)) {
    return "choice";
  }
  switch (schema.type) {
    case "boolean":
    case "integer":
    case "number":
      return schema.type;
    case "string":
      return "text";
    default:
      return "json";
  }
}

function kindOfValue(value: Json): Kind {
  if (isNumber(value)) {
    return "number";
  }
  switch (typeof value) {
    case "boolean":
      return "boolean";
    case "string":
      return "text";
    default:
      return "json";
  }
}

/** The value at a path, or undefined. */
export function at(document: JsonObject, path: readonly string[]): Json | undefined {
  let place: Json | undefined = document;
  for (const name of path) {
    const inner = asObject(place);
    place = inner !== undefined && Object.hasOwn(inner, name) ? inner[name] : undefined;
  }
  return place;
}

/** The document with this value at the path; undefined removes the path and objects that become empty. */
export function put(document: JsonObject, path: readonly string[], value: Json | undefined): JsonObject {
  const [name, ...rest] = path;
  if (name === undefined) {
    return document;
  }
  const inner = rest.length === 0 ? value : put(asObject(document[name]) ?? {}, rest, value);
  const gone = inner === undefined || (rest.length > 0 && Object.keys(asObject(inner) ?? {}).length === 0);
  const others = Object.entries(document).filter(([key]) => key !== name);
  if (gone) {
    return Object.fromEntries(others);
  }
  // Keep the order of keys, so that the displayed text is stable.
  return Object.hasOwn(document, name)
    ? Object.fromEntries(Object.entries(document).map(([key, old]) => [key, key === name ? inner : old]))
    : Object.fromEntries([...others, [name, inner]]);
}

/** The merge patch (RFC 7396) from `before` to `after`; undefined if `after` contains a null, which it cannot express. */
export function mergePatch(before: JsonObject, after: JsonObject): JsonObject | undefined {
  const patch: JsonObject = {};
  for (const name of new Set([...Object.keys(before), ...Object.keys(after)])) {
    const [old, wanted] = [at(before, [name]), at(after, [name])];
    if (toJson(old) === toJson(wanted)) {
      continue;
    }
    const inner = asObject(wanted);
    const change = inner === undefined ? wanted : mergePatch(asObject(old) ?? {}, inner);
    if (wanted !== undefined && (change === undefined || change === null)) {
      return undefined;
    }
    patch[name] = change ?? null;
  }
  return patch;
}

/** Parses input as a value; empty input is undefined. */
export function parse(field: Field, text: string): { value: Json | undefined } | { error: string } {
  if (text.trim() === "") {
    return { value: undefined };
  }
  if (field.kind === "text" || isPlaceholder(text)) {
    return { value: text };
  }
  try {
    return { value: fromJson(text) };
  } catch {
    if (field.sealed && field.kind === "json") {
      // Perhaps of a type that the form does not know: as in `mdm`, what is no JSON is text.
      return { value: text };
    }
    return {
      error: field.kind === "json" ? "is not JSON" : `is not a ${field.kind === "choice" ? "choice" : "number"}`,
    };
  }
}

/** A value as input for `parse`. */
export function print(field: Field, value: Json | undefined): string {
  if (value === undefined) {
    return "";
  }
  return (field.kind === "text" && typeof value === "string") || isPlaceholder(value) ? value : toJson(value);
}

export function asObject(value: Json | undefined): JsonObject | undefined {
  return typeof value === "object" && value !== null && !Array.isArray(value) && !isNumber(value)
    ? value
    : undefined;
}
