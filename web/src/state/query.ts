import { useSignal } from "@preact/signals";
import { useEffect, useMemo } from "preact/hooks";

import { Throttle } from "../lib/throttle.ts";
import type { NamedEvent } from "../protocol.ts";
import { connections, onEvent } from "./session.ts";

const PAUSE_MS = 500;

export interface Query<T> {
  /** The last answer, also during a refresh. */
  readonly data: T | undefined;
  readonly error: Error | undefined;
  readonly refresh: () => void;
}

interface State<T> {
  readonly key: string;
  readonly data?: T | undefined;
  readonly error?: Error;
}

/**
 * Queries when `key` changes, at each connection, and at each event that `concerns` the answer.
 *
 * `key` includes everything that the query depends on.
 */
export function useQuery<T>(
  key: string,
  question: () => Promise<T>,
  concerns: (event: NamedEvent) => boolean = () => false,
): Query<T> {
  const state = useSignal<State<T>>({ key });
  const asking = useMemo(() => {
    let wanted = true;
    const throttle = new Throttle(async () => {
      const answer = await question().then(
        (data): State<T> => ({ key, data }),
        (error: unknown): State<T> => ({ key, data: dataOf(state.peek(), key), error: asError(error) }),
      );
      if (wanted) {
        state.value = answer;
      }
    }, PAUSE_MS);
    return {
      request: () => throttle.request(),
      stop: () => {
        wanted = false;
        throttle.stop();
      },
    };
  }, [key]);
  const epoch = connections.value;
  useEffect(() => asking.request(), [asking, epoch]);
  useEffect(() => {
    const unsubscribe = onEvent((event) => {
      if (concerns(event)) {
        asking.request();
      }
    });
    return () => {
      unsubscribe();
      asking.stop();
    };
  }, [asking]);
  const { error, key: answered } = state.value;
  return {
    data: dataOf(state.value, key),
    error: answered === key ? error : undefined,
    refresh: asking.request,
  };
}

export function asError(error: unknown): Error {
  return error instanceof Error ? error : new Error(String(error));
}

function dataOf<T>(state: State<T>, key: string): T | undefined {
  return state.key === key ? state.data : undefined;
}
