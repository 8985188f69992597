import { href } from "../lib/router.ts";
import { facts } from "../lib/text.ts";
import { nameOf } from "../state/fleet.ts";
import { Ago } from "./basics.tsx";

export interface Happening {
  readonly event_id: string;
  readonly at: string;
  readonly noun: string;
  readonly verb: string;
  readonly client_id?: string | null | undefined;
  readonly data: object;
}

/** What has happened, a line each; `named` has the devices. */
export function EventLines({ events, named }: { events: readonly Happening[]; named: boolean }) {
  return (
    <ol class="events lines">
      {events.map((event) => (
        <li key={event.event_id}>
          <Ago at={event.at} />
          <b>
            {event.noun} {event.verb.replaceAll("_", " ")}
          </b>
          <span>
            {named && event.client_id && <a href={href("device", event.client_id)}>{nameOf(event.client_id)}</a>}{" "}
            <small>{facts(event.data)}</small>
          </span>
        </li>
      ))}
    </ol>
  );
}
