import type { VitalPoint } from "../protocol.ts";

export const WIDTH = 400;
export const HEIGHT = 100;
/** A pause of more than these typical distances is a gap. */
const GAP = 2.5;

export interface Drawn {
  readonly lowest: number;
  readonly highest: number;
  /** Points without a gap between them, each with its place and those of its range. */
  readonly runs: readonly (readonly Place[])[];
  /** Where other firmware ran than before. */
  readonly changes: readonly { readonly x: number; readonly version: string; readonly at: string }[];
}

export interface Place {
  readonly x: number;
  readonly low: number;
  readonly mean: number;
  readonly high: number;
}

/** The places of one or more points in a field of WIDTH and HEIGHT. */
export function draw(points: readonly VitalPoint[]): Drawn {
  const lowest = Math.min(...points.map(({ low }) => low));
  const highest = Math.max(...points.map(({ high }) => high));
  const times = points.map(({ at }) => Date.parse(at));
  const [first = 0, last = 0] = [times[0], times.at(-1)];
  const x = (time: number) => (last === first ? WIDTH / 2 : (WIDTH * (time - first)) / (last - first));
  const y = (value: number) =>
    highest === lowest ? HEIGHT / 2 : HEIGHT - (HEIGHT * (value - lowest)) / (highest - lowest);
  const steps = times.slice(1).map((time, index) => time - (times[index] ?? time));
  const longest = GAP * Math.min(...steps);
  const runs: Place[][] = [];
  const changes: { x: number; version: string; at: string }[] = [];
  points.forEach(({ at, low, mean, high, version }, index) => {
    const time = times[index] ?? first;
    const place = { x: x(time), low: y(low), mean: y(mean), high: y(high) };
    const run = runs.at(-1);
    if (run !== undefined && (steps[index - 1] ?? 0) <= longest) {
      run.push(place);
    } else {
      runs.push([place]);
    }
    if (index > 0 && version !== null && version !== points[index - 1]?.version) {
      changes.push({ x: place.x, version, at });
    }
  });
  return { lowest, highest, runs, changes };
}
