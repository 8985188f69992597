import type { DeviceView } from "../protocol.ts";
import { count } from "./census.ts";
import { terms } from "./search.ts";

const MOST_VALUES = 8;

/** A search term that narrows the list, and how many devices fit it. */
export interface Facet {
  readonly term: string;
  readonly count: number;
}

/** The terms by which these devices differ, and those in use. */
export function facetsOf(devices: readonly DeviceView[], text: string): Facet[] {
  const used = new Set(terms(text));
  const found = [
    ...values(
      "presence",
      count(devices, ({ presence }) => presence),
    ),
    ...values(
      "health",
      count(devices, ({ health }) => health),
    ),
    ...values(
      "model",
      count(devices, ({ model }) => model),
    ),
    ...values(
      "tag",
      count(
        devices.flatMap(({ tags }) => tags),
        (tag) => tag.toLowerCase(),
      ),
    ),
  ].filter((facet) => used.has(facet.term) || facet.count < devices.length);
  const shown = new Set(found.map(({ term }) => term));
  return [
    ...[...used].filter((term) => term.includes(":") && !shown.has(term)).map((term) => ({ term, count: 0 })),
    ...found,
  ];
}

function values(name: string, counts: ReadonlyMap<string, number>): Facet[] {
  return [...counts].slice(0, MOST_VALUES).map(([value, number]) => ({ term: `${name}:${value}`, count: number }));
}

/** The text with the term, or without it if it has it. */
export function toggled(text: string, term: string): string {
  const found = terms(text);
  return (found.includes(term) ? found.filter((one) => one !== term) : [...found, term]).join(" ");
}
