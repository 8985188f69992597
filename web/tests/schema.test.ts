import { describe, expect, it } from "vitest";

import { NEW_SETTING, schemaOf, settingsOf, type Setting } from "../src/lib/schema.ts";

const setting = (name: string, others: Partial<Setting> = {}): Setting => ({ ...NEW_SETTING, name, ...others });

describe("settings of a model", () => {
  it("become a schema and defaults, and are the same when read again", () => {
    const settings = [
      setting("interval_s", { minimum: "1", maximum: "3600", fallback: "60", description: "between two reports" }),
      setting("led.color", { type: "string", choices: "red, green", fallback: "red" }),
      setting("led.on", { type: "boolean", fallback: "true" }),
      setting("api_key", { type: "string", isSealed: true }),
    ];
    const { schema, defaults } = schemaOf(settings);
    expect(defaults).toEqual({ interval_s: 60, led: { color: "red", on: true } });
    expect(schema.properties).toEqual({
      interval_s: { type: "integer", description: "between two reports", minimum: 1, maximum: 3600 },
      led: {
        type: "object",
        additionalProperties: false,
        properties: { color: { type: "string", enum: ["red", "green"] }, on: { type: "boolean" } },
      },
      api_key: { type: "string", writeOnly: true },
    });
    expect(settingsOf(schema, defaults)).toEqual(settings);
  });

  it("are not shown as a form if the schema or the defaults say more than it can", () => {
    const schema = schemaOf([setting("n")]).schema;
    expect(settingsOf({ ...schema, required: ["n"] }, {})).toBeUndefined();
    expect(settingsOf({ ...schema, additionalProperties: true }, {})).toBeUndefined();
    expect(settingsOf({ type: "object" }, {})).toBeUndefined();
    expect(settingsOf({ properties: { n: { anyOf: [] } }, additionalProperties: false }, {})).toBeUndefined();
    expect(settingsOf(schema, { other: 1 })).toBeUndefined();
    expect(settingsOf(null, {})).toEqual([]);
  });

  it.each([
    [[setting("")], "needs a name"],
    [[setting("a..b")], "needs a name"],
    [[setting("a"), setting("a")], "a is there twice"],
    [[setting("a"), setting("a.b")], "a.b cannot be inside"],
    [[setting("a.b"), setting("a")], "a has a value and settings inside"],
    [[setting("n", { minimum: "few" })], "n: few is not a number"],
    [[setting("on", { type: "boolean", fallback: "yes" })], "on: yes is not true or false"],
  ])("that are wrong are named", (settings, message) => {
    expect(() => schemaOf(settings)).toThrow(message);
  });
});
