import { Answered, Badge, Panel } from "../components/basics.tsx";
import { Health } from "../components/Health.tsx";
import { href } from "../lib/router.ts";
import { sorted } from "../lib/sorting.ts";
import { plural } from "../lib/text.ts";
import { CLAIM_REQUESTS, ROLLOUT_LIST } from "../protocol.ts";
import { fleet } from "../state/fleet.ts";
import { useQuery } from "../state/query.ts";
import { ask } from "../state/session.ts";

const SHOWN = 8;
const BAD = new Set(["warning", "critical", "inactive"]);

/** What somebody should look at: unhealthy devices, the worst first, rollouts that halted, machines that wait. */
export function Attention() {
  const rollouts = useQuery(
    "halted rollouts",
    () => ask(ROLLOUT_LIST, {}),
    ({ noun }) => noun === "rollout",
  );
  const requests = useQuery(
    "machines that wait",
    () => ask(CLAIM_REQUESTS, { state: "pending" }),
    ({ noun }) => noun === "claim",
  );
  const bad = sorted(
    fleet.value.devices.filter(({ health }) => BAD.has(health)),
    { column: "Health", isDescending: true },
  );
  const halted = rollouts.data?.rollouts.filter(({ state }) => state === "HALTED") ?? [];
  const waiting = requests.data?.requests.length ?? 0;
  if (bad.length + halted.length + waiting === 0) {
    return null;
  }
  return (
    <div class="wide">
      <Panel title="Needs attention">
        <ul class="events">
          {waiting > 0 && (
            <li>
              <a href={href("claims")}>{plural(waiting, "machine")}</a>{" "}
              <Badge tone="busy">waits for approval</Badge>
            </li>
          )}
          {halted.map(({ rollout, model, version }) => (
            <li key={rollout}>
              <a href={href("rollout", rollout)}>
                Rollout of {model} {version}
              </a>{" "}
              <Badge tone="bad">halted</Badge>
            </li>
          ))}
          {bad.slice(0, SHOWN).map((device) => (
            <li key={device.client_id}>
              <a href={href("device", device.client_id)}>{device.name || device.client_id}</a>{" "}
              <Health device={device} brief />
            </li>
          ))}
          {bad.length > SHOWN && (
            <li>
              <a href={href("devices")}>and {plural(bad.length - SHOWN, "more device", "more devices")}</a>
            </li>
          )}
        </ul>
        {rollouts.error && <Answered query={rollouts}>{() => null}</Answered>}
      </Panel>
    </div>
  );
}
