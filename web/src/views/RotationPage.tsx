import { useState } from "preact/hooks";

import { Ago, Answered, Badge, Empty, Panel, Table } from "../components/basics.tsx";
import { Button } from "../components/Button.tsx";
import { Ring } from "../components/charts.tsx";
import { Outcome } from "../components/fields.tsx";
import { ConfirmButton } from "../components/form.tsx";
import { ALL, SelectionField, devicesOf, reach } from "../components/selection.tsx";
import { href } from "../lib/router.ts";
import { plural } from "../lib/text.ts";
import {
  ROTATION_CANCEL,
  ROTATION_START,
  ROTATION_STATUS,
  type RotationOverview,
  type RotationUnderWay,
} from "../protocol.ts";
import { useAction } from "../state/action.ts";
import { nameOf } from "../state/fleet.ts";
import { useInterval } from "../state/interval.ts";
import { useQuery } from "../state/query.ts";
import { ask, recentEvents } from "../state/session.ts";
import { Schedule } from "./Schedule.tsx";

/** The steps of a successful rotation. */
const STEPS = ["OFFERED", "DELIVERED", "STORED", "SWITCHING", "SWITCHED"];
const REFRESH_MS = 5_000;

export function RotationPage() {
  const status = useQuery(
    "rotation",
    () => ask(ROTATION_STATUS, {}),
    (event) => event.noun === "rotation",
  );
  useInterval(status.refresh, REFRESH_MS);
  const action = useAction();
  const [of, select] = useState(ALL);
  const count = devicesOf(of).length;
  const start = () =>
    action.run(async () => {
      const { queued, waiting, already, skipped } = await ask(ROTATION_START, of);
      const others = [
        waiting.count > 0 && `${waiting.count.toLocaleString()} of them not online, which wait until they are`,
        already.count > 0 && `${plural(already.count, "device")} already queued or in progress`,
        skipped.count > 0 && `${plural(skipped.count, "device")} skipped (disabled)`,
      ].filter(Boolean);
      return [`${plural(queued.count, "device")} queued`, ...others].join(", ");
    });
  const cancel = () =>
    action.run(async () => {
      const { dequeued, not_retried: timedOut, ending } = await ask(ROTATION_CANCEL, { all: true });
      return `Cancelled: ${dequeued.count} not started, ${timedOut.count} waiting for a retry, ${ending.count} in progress, which end soon.`;
    });
  return (
    <>
      <div class="title">
        <h1>Secret rotation</h1>
        <Button needs={ROTATION_CANCEL} disabled={action.busy} onClick={cancel}>
          Cancel all
        </Button>
      </div>
      <div class="searching">
        <SelectionField of={of} change={select} />
        <ConfirmButton
          label={`Start rotation of ${plural(count, "device")}`}
          title={`Rotate the secrets of ${plural(count, "device")}?`}
          verb="Start"
          tone="primary"
          needs={ROTATION_START}
          run={async () => {
            await start();
            return undefined;
          }}
        >
          {reach(of)}: each gets a new secret, one after another. Those that are not online wait until they are.
        </ConfirmButton>
      </div>
      <Outcome action={action} />
      <Answered query={status}>{(found) => <Campaign status={found} />}</Answered>
    </>
  );
}

function Campaign({ status }: { status: RotationOverview }) {
  const { counts, asleep, offline, under_way: underWay } = status;
  return (
    <div class="panels">
      <Panel title="All devices">
        <Ring
          label="All devices"
          slices={[
            { name: "ok", count: counts.ok, tone: "good", href: href("devices", "rotation:ok") },
            { name: "queued", count: counts.queued, tone: "calm", href: href("devices", "rotation:queued") },
            {
              name: "in progress",
              count: counts.pending,
              tone: "busy",
              href: href("devices", "rotation:pending"),
            },
            { name: "timed out", count: counts.timeout, tone: "bad", href: href("devices", "rotation:timeout") },
          ]}
        />
        {asleep + offline > 0 && (
          <small>
            Of the queued, {asleep} are asleep and {offline} offline: they get a new secret when they are online.
          </small>
        )}
      </Panel>
      <Panel title="Recently ended">
        <Ended />
      </Panel>
      <Schedule />
      <div class="wide">
        <Panel title="In progress">
          {underWay.length === 0 ? (
            <Empty>No rotations in progress. Start one above for all devices, a tag or a model.</Empty>
          ) : (
            <Table label="Rotations in progress" head={["Device", "Step", "Generation", "Started", "Time left"]}>
              {underWay.map((rotation) => (
                <Row key={rotation.rotation_id} rotation={rotation} />
              ))}
            </Table>
          )}
          {status.next !== null && <small>The first {underWay.length} are shown; more are in progress.</small>}
        </Panel>
      </div>
    </div>
  );
}

function Row({ rotation }: { rotation: RotationUnderWay }) {
  const done = STEPS.indexOf(rotation.step) + 1;
  return (
    <tr>
      <th scope="row">
        <a href={href("device", rotation.client_id, "rotations")}>{nameOf(rotation.client_id)}</a>
      </th>
      <td>
        <progress max={STEPS.length + 1} value={done} aria-label={`step ${done} of ${STEPS.length + 1}`} />{" "}
        {rotation.step.toLowerCase()} {rotation.cancelled && <Badge tone="warn">cancelled</Badge>}
      </td>
      <td>{rotation.generation}</td>
      <td>
        <Ago at={rotation.started_at} />
      </td>
      <td>{rotation.left_s} s</td>
    </tr>
  );
}

function Ended() {
  const ended = recentEvents.value
    .filter(({ noun, verb }) => noun === "rotation" && (verb === "completed" || verb === "timed_out"))
    .slice(0, 8);
  return ended.length === 0 ? (
    <Empty>None since this page was opened.</Empty>
  ) : (
    <ol class="events">
      {ended.map((event) => (
        <li key={event.event_id}>
          <Badge tone={event.verb === "completed" ? "good" : "bad"}>{event.verb.replace("_", " ")}</Badge>{" "}
          <a href={href("device", event.client_id ?? "", "rotations")}>{nameOf(event.client_id ?? "")}</a>{" "}
          <small>
            <Ago at={event.at} />
          </small>
        </li>
      ))}
    </ol>
  );
}
