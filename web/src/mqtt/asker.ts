import { fromJson, toJson } from "../lib/json.ts";
import type { Answer, Operation, Problem } from "../protocol.ts";

export const RESEND_MS = 2_000;
export const TIMEOUT_MS = 30_000;

/** A service refused a request; `code` is the service's code of the reason. */
export class RefusedError extends Error {
  constructor(readonly problem: Problem) {
    super(problem.message);
    this.name = "RefusedError";
  }

  get code(): string {
    return this.problem.code;
  }
}

/** No answer arrived in time; the request may or may not have been executed. */
export class NoAnswerError extends Error {
  override name = "NoAnswerError";
}

/** The broker does not accept the request from this account. */
export class ForbiddenError extends Error {
  override name = "ForbiddenError";
}

export interface Outgoing {
  readonly operation: Operation<unknown, unknown>;
  readonly payload: string;
  readonly correlation: string;
}

interface Pending {
  readonly outgoing: Outgoing;
  readonly resolve: (result: unknown) => void;
  readonly reject: (error: Error) => void;
  readonly resending: ReturnType<typeof setInterval>;
  readonly expiring: ReturnType<typeof setTimeout>;
}

/**
 * Pending requests: each is sent again until it is answered, as `mdm` does.
 *
 * A request keeps its `request_id`, which makes retries idempotent.
 */
export class Asker {
  readonly #pending = new Map<string, Pending>();

  constructor(private readonly send: (outgoing: Outgoing) => void) {}

  ask<Asked, Answered>(operation: Operation<Asked, Answered>, fields: Asked): Promise<Answered> {
    const correlation = newId();
    const payload = toJson({ request_id: newId(), ...fields });
    const outgoing: Outgoing = { operation, payload, correlation };
    return new Promise<Answered>((resolve, reject) => {
      this.#pending.set(correlation, {
        outgoing,
        resolve: resolve as (result: unknown) => void,
        reject,
        resending: setInterval(() => this.send(outgoing), RESEND_MS),
        expiring: setTimeout(() => this.fail(correlation, silence(operation.service)), TIMEOUT_MS),
      });
      this.send(outgoing);
    });
  }

  /** Handles a received answer; duplicates are dropped. */
  answered(correlation: string, payload: string): void {
    const pending = this.#settle(correlation);
    if (pending === undefined) {
      return;
    }
    try {
      const answer = fromJson(payload) as unknown as Answer;
      if (answer.ok && answer.result) {
        pending.resolve(answer.result);
      } else {
        pending.reject(new RefusedError(answer.error ?? unexplained));
      }
    } catch {
      pending.reject(new RefusedError({ ...unexplained, message: "the answer is unreadable" }));
    }
  }

  fail(correlation: string, error: Error): void {
    this.#settle(correlation)?.reject(error);
  }

  /** Sends all pending requests again, as the broker may have lost them before a reconnect. */
  sendAllAgain(): void {
    for (const { outgoing } of this.#pending.values()) {
      this.send(outgoing);
    }
  }

  failAll(error: Error): void {
    for (const correlation of [...this.#pending.keys()]) {
      this.fail(correlation, error);
    }
  }

  #settle(correlation: string): Pending | undefined {
    const pending = this.#pending.get(correlation);
    if (pending !== undefined) {
      this.#pending.delete(correlation);
      clearInterval(pending.resending);
      clearTimeout(pending.expiring);
    }
    return pending;
  }
}

const unexplained: Problem = { code: "unknown", message: "refused without a reason", details: {} };

function silence(service: string): NoAnswerError {
  const seconds = TIMEOUT_MS / 1000;
  return new NoAnswerError(`No answer from the ${service} service within ${seconds} s. Check that it is running.`);
}

export function newId(): string {
  // Not crypto.randomUUID, which is only available on pages loaded over TLS.
  const bytes = crypto.getRandomValues(new Uint8Array(16));
  return Array.from(bytes, (byte) => byte.toString(16).padStart(2, "0")).join("");
}

/** A password of 256 bits, in base64url. */
export function newPassword(): string {
  const bytes = crypto.getRandomValues(new Uint8Array(32));
  return btoa(String.fromCharCode(...bytes))
    .replaceAll("+", "-")
    .replaceAll("/", "_")
    .replace("=", "");
}
