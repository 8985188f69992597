import { ADMIN_TOPIC, EVENT_TOPIC, REPLY_TOPIC, type Operation } from "../protocol.ts";

export function requestTopic(operation: Operation<unknown, unknown>, account: string): string {
  const { service, noun, verb } = operation;
  return fill(ADMIN_TOPIC, { account, service, noun, verb });
}

export function replyTopic(account: string, clientId: string): string {
  return fill(REPLY_TOPIC, { account, client_id: clientId });
}

export const EVENTS = EVENT_TOPIC.replace(/\{\w+\}/g, "+");

/** The noun and the verb of an event's topic, or undefined for any other topic. */
export function eventName(topic: string): { noun: string; verb: string } | undefined {
  const [start = ""] = EVENT_TOPIC.split("{");
  const parts = topic.startsWith(start) ? topic.slice(start.length).split("/") : [];
  const [noun, verb] = parts;
  return parts.length === 2 && noun && verb ? { noun, verb } : undefined;
}

function fill(template: string, names: Record<string, string>): string {
  return template.replace(/\{(\w+)\}/g, (_match, name: string) => names[name] ?? "");
}
