import type { Slice } from "../components/charts.tsx";
import type { Tone } from "../components/basics.tsx";
import type { RolloutCounts } from "../protocol.ts";

export const STATE_TONES: Partial<Record<string, Tone>> = {
  RUNNING: "busy",
  PAUSED: "warn",
  HALTED: "bad",
  ABORTED: "bad",
  COMPLETED: "good",
};

const COUNT_TONES: Record<keyof RolloutCounts, Tone> = {
  confirmed: "good",
  taken: "busy",
  offered: "busy",
  waiting: "calm",
  silent: "warn",
  skipped: "warn",
  rolled_back: "bad",
  failed: "bad",
};

/** The number of devices by state, in one or more waves. */
export function slices(...waves: RolloutCounts[]): Slice[] {
  const names = Object.keys(COUNT_TONES) as (keyof RolloutCounts)[];
  return names.map((name) => ({
    name: name.replace("_", " "),
    tone: COUNT_TONES[name],
    count: waves.reduce((sum, counts) => sum + counts[name], 0),
  }));
}
