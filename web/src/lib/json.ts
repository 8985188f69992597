import { isLosslessNumber, LosslessNumber, parse, stringify } from "lossless-json";

import type { Json } from "../protocol.ts";

/** Parses JSON. A number that JavaScript would write in another way (9007199254740993, 1.0) keeps its digits. */
export function fromJson(text: string): Json {
  return parse(text, null, numberOf) as Json;
}

/** The JSON of a value, as it was if it comes from `fromJson`; undefined, which has none, is empty. */
export function toJson(value: unknown, indent?: number): string {
  return stringify(value, null, indent) ?? "";
}

export function isNumber(value: Json | undefined): value is number | LosslessNumber {
  return typeof value === "number" || isLosslessNumber(value);
}

function numberOf(digits: string): number | LosslessNumber {
  const number = Number(digits);
  return String(number) === digits ? number : new LosslessNumber(digits);
}
