import { useState } from "preact/hooks";

import { asError } from "./query.ts";

export interface Action {
  readonly busy: boolean;
  readonly error: Error | undefined;
  /** A message about what the last run has done. */
  readonly done: string | undefined;
  readonly run: (work: () => Promise<string | undefined>) => Promise<void>;
  readonly reset: () => void;
}

/** State of a user's action: busy, done or failed. `work` returns a message about what it has done. */
export function useAction(): Action {
  const [state, set] = useState<Omit<Action, "run" | "reset">>(IDLE);
  const run = async (work: () => Promise<string | undefined>) => {
    set({ ...IDLE, busy: true });
    try {
      set({ ...IDLE, done: await work() });
    } catch (error) {
      set({ ...IDLE, error: asError(error) });
    }
  };
  return { ...state, run, reset: () => set(IDLE) };
}

const IDLE = { busy: false, error: undefined, done: undefined };
