import mqtt, { type IClientOptions, type MqttClient } from "mqtt";

import type { Event, NamedEvent, Operation } from "../protocol.ts";
import { Asker, ForbiddenError, TIMEOUT_MS, newId, type Outgoing } from "./asker.ts";
import { EVENTS, eventName, replyTopic, requestTopic } from "./topics.ts";

const NOT_AUTHORIZED = 0x87;
const BAD_USER_NAME_OR_PASSWORD = 0x86;
const RECONNECT_MS = 1_000;

export interface Listener {
  /** The connection is restored; events may have been missed. */
  up(): void;
  lost(): void;
  /** The broker no longer accepts the account. */
  refused(error: LoginError): void;
  event(event: NamedEvent): void;
}

/** The account or its password is wrong, or the broker cannot be reached. */
export class LoginError extends Error {
  override name = "LoginError";
}

/** A connection to the page's broker; it reconnects until `close`. */
export class Connection {
  readonly #asker = new Asker((outgoing) => this.#send(outgoing));
  readonly #replyTopic: string;
  readonly #client: MqttClient;
  #opened = false;

  private constructor(
    readonly account: string,
    password: string,
    private readonly listener: Listener,
  ) {
    const clientId = `mdm-web-${newId()}`;
    this.#replyTopic = replyTopic(account, clientId);
    this.#client = mqtt.connect(brokerUrl(), options(clientId, account, password));
  }

  /** Connects, or throws a LoginError with what to do. */
  static async open(account: string, password: string, listener: Listener): Promise<Connection> {
    const connection = new Connection(account, password, listener);
    try {
      await connection.#first();
    } catch (error) {
      connection.#client.end(true);
      throw error;
    }
    return connection;
  }

  ask<Asked, Answered>(operation: Operation<Asked, Answered>, fields: Asked): Promise<Answered> {
    return this.#asker.ask(operation, fields);
  }

  close(): void {
    this.#asker.failAll(new Error("Logged out."));
    this.#client.end(true);
  }

  #first(): Promise<void> {
    return new Promise((resolve, reject) => {
      this.#client.on("message", (topic, payload, packet) => {
        this.#received(topic, payload.toString(), packet.properties?.correlationData?.toString() ?? "");
      });
      this.#client.on("connect", () => {
        this.#subscribed().then(() => {
          if (this.#opened) {
            this.listener.up();
          }
          this.#opened = true;
          resolve();
          this.#asker.sendAllAgain();
        }, reject);
      });
      this.#client.on("error", (error) => {
        const { message, final } = explained(error);
        reject(new LoginError(message));
        if (final && this.#opened) {
          this.listener.refused(new LoginError(message));
        }
      });
      this.#client.on("close", () => {
        reject(new LoginError(unreachable()));
        this.listener.lost();
      });
    });
  }

  async #subscribed(): Promise<void> {
    const grants = await this.#client.subscribeAsync([this.#replyTopic, EVENTS], { qos: 1 });
    if (grants.some((grant) => grant.qos > 2)) {
      throw new LoginError(
        `The account ${this.account} cannot use this page, as it is not an account of an admin.`,
      );
    }
  }

  #received(topic: string, payload: string, correlation: string): void {
    if (topic === this.#replyTopic) {
      this.#asker.answered(correlation, payload);
      return;
    }
    const name = eventName(topic);
    if (name !== undefined) {
      try {
        this.listener.event({ ...(JSON.parse(payload) as Event), ...name } as NamedEvent);
      } catch {
        console.warn("unreadable event", topic);
      }
    }
  }

  #send({ operation, payload, correlation }: Outgoing): void {
    if (!this.#client.connected) {
      return; // sent again after the reconnect
    }
    const properties = {
      responseTopic: this.#replyTopic,
      // The library also accepts a string and sends its bytes.
      correlationData: correlation as unknown as Buffer,
      messageExpiryInterval: TIMEOUT_MS / 1000,
    };
    const topic = requestTopic(operation, this.account);
    this.#client.publish(topic, payload, { qos: 1, properties }, (error) => {
      if (codeOf(error) === NOT_AUTHORIZED) {
        this.#asker.fail(correlation, new ForbiddenError(forbidden(this.account, operation)));
      }
    });
  }
}

function options(clientId: string, username: string, password: string): IClientOptions {
  return {
    clientId,
    username,
    password,
    protocolVersion: 5,
    clean: true,
    keepalive: 30,
    reconnectPeriod: RECONNECT_MS,
    connectTimeout: 10_000,
    resubscribe: false,
    // The page's Content-Security-Policy forbids workers.
    timerVariant: "native",
  };
}

/** The broker's URL from the page's server, else /mqtt at the page's own address, for a proxy. */
function brokerUrl(): string {
  const configured = document.querySelector<HTMLMetaElement>('meta[name="mdm-broker"]')?.content;
  const { protocol, host } = window.location;
  return configured || `${protocol === "https:" ? "wss" : "ws"}://${host}/mqtt`;
}

function unreachable(): string {
  const url = brokerUrl().replace(/^ws/, "http");
  return `The broker at ${url} cannot be reached. Check that it is running. If the browser does not trust its certificate, import the certificate authority, or open ${url} once and accept it.`;
}

function explained(error: Error): { message: string; final: boolean } {
  const code = codeOf(error);
  if (code === NOT_AUTHORIZED || code === BAD_USER_NAME_OR_PASSWORD) {
    return { message: "The account or the password is wrong.", final: true };
  }
  return { message: unreachable(), final: false };
}

function forbidden(account: string, operation: Operation<unknown, unknown>): string {
  return `The account ${account} may not do this (${operation.noun} ${operation.verb}). Log in with an account that may.`;
}

function codeOf(error: unknown): number | undefined {
  const code = typeof error === "object" && error !== null && "code" in error ? error.code : undefined;
  return typeof code === "number" ? code : undefined;
}
