import { Empty, Failed, Loading, Panel } from "../components/basics.tsx";
import { Bars, Ring, type Slice } from "../components/charts.tsx";
import { EventLines, type Happening } from "../components/EventLines.tsx";
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
import { EVENT_LIST } from "../protocol.ts";
import { fleet, reloadFleet } from "../state/fleet.ts";
import { useQuery } from "../state/query.ts";
import { ask, recentEvents } from "../state/session.ts";
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

/** The newest events: those before the page was loaded, too. */
function RecentEvents() {
  const stored = useQuery("events", () => ask(EVENT_LIST, { limit: SHOWN_EVENTS }));
  const heard = recentEvents.value.slice(0, SHOWN_EVENTS);
  const known = new Set(heard.map(({ event_id: id }) => id));
  const events = [
    ...(heard as readonly Happening[]),
    ...(stored.data?.events ?? []).filter(({ event_id: id }) => !known.has(id)),
  ]
    .sort((one, other) => Date.parse(other.at) - Date.parse(one.at))
    .slice(0, SHOWN_EVENTS);
  return (
    <div class="wide">
      <Panel title="Events">
        {events.length === 0 ? <Empty>New events appear here.</Empty> : <EventLines events={events} named />}
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
