import { Ago, Empty, Failed, Loading, Panel } from "../components/basics.tsx";
import { Bars, Ring, type Slice } from "../components/charts.tsx";
import {
  HEALTH_TONES,
  PRESENCE_TONES,
  ROTATION_TONES,
  count,
  drifts,
  inStep,
  rotationWord,
  versions,
} from "../lib/census.ts";
import { href } from "../lib/router.ts";
import { facts } from "../lib/text.ts";
import { fleet, nameOf, reloadFleet } from "../state/fleet.ts";
import { recentEvents } from "../state/session.ts";
import { Attention } from "./Attention.tsx";

const SHOWN_EVENTS = 12;

export function OverviewPage() {
  const { devices, complete, error } = fleet.value;
  const presence = count(devices, (device) => device.presence);
  const drifting = devices.filter(drifts).length;
  const applied = devices.filter(inStep).length;
  const health = count(devices, (device) => device.health);
  const rotation = count(devices, (device) => device.rotation_state);
  return (
    <>
      <h1>Overview</h1>
      {error && <Failed error={error} retry={reloadFleet} />}
      {!complete && !error && <Loading />}
      {complete && devices.length === 0 && (
        <Empty>
          No devices yet. <a href={href("devices")}>Add the first one.</a>
        </Empty>
      )}
      <div class="panels">
        <Attention />
        <Panel title="Connection">
          <Ring label="Connection" slices={toned(PRESENCE_TONES, presence, "presence")} />
        </Panel>
        <Panel title="Health">
          <Ring label="Health" slices={toned(HEALTH_TONES, health, "health")} />
        </Panel>
        <Panel title="Configuration">
          <Ring
            label="Configuration"
            slices={[
              { name: "as desired", count: applied, tone: "good", href: list("drift:no") },
              { name: "drifting", count: drifting, tone: "warn", href: list("drift:yes") },
              {
                name: "never seen",
                count: devices.length - applied - drifting,
                tone: "calm",
                href: list("health:never_seen"),
              },
            ]}
          />
        </Panel>
        <Panel title="Secrets">
          <Ring label="Secrets" slices={toned(ROTATION_TONES, rotation, "rotation")} />
        </Panel>
        <div class="double">
          <Panel title="Firmware">
            <Bars label="Firmware" slices={versions(devices, list)} />
          </Panel>
        </div>
        <RecentEvents />
      </div>
    </>
  );
}

function RecentEvents() {
  const events = recentEvents.value.slice(0, SHOWN_EVENTS);
  return (
    <div class="wide">
      <Panel title="Events">
        {events.length === 0 ? (
          <Empty>New events appear here.</Empty>
        ) : (
          <ol class="events lines">
            {events.map((event) => (
              <li key={event.event_id}>
                <Ago at={event.at} />
                <b>
                  {event.noun} {event.verb.replaceAll("_", " ")}
                </b>
                <span>
                  {event.client_id && <a href={href("device", event.client_id)}>{nameOf(event.client_id)}</a>}{" "}
                  <small>{facts(event.data)}</small>
                </span>
              </li>
            ))}
          </ol>
        )}
      </Panel>
    </div>
  );
}

function toned(tones: Partial<Record<string, Slice["tone"]>>, counts: Map<string, number>, word: string): Slice[] {
  return Object.entries(tones).map(([name, tone = "calm"]) => ({
    name: rotationWord(name).replaceAll("_", " "),
    count: counts.get(name) ?? 0,
    tone,
    href: list(`${word}:${name.toLowerCase()}`),
  }));
}

function list(search: string): string {
  return href("devices", search);
}
