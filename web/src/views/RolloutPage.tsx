import { Ago, Answered, Badge, Empty, Facts, Notice, Panel, Table } from "../components/basics.tsx";
import { Button } from "../components/Button.tsx";
import { Ring, Stack } from "../components/charts.tsx";
import { Outcome } from "../components/fields.tsx";
import { STATE_TONES, slices } from "../lib/rollouts.ts";
import { href } from "../lib/router.ts";
import { plural } from "../lib/text.ts";
import { duration } from "../lib/vitals.ts";
import { ROLLOUT_ABORT, ROLLOUT_PAUSE, ROLLOUT_RESUME, ROLLOUT_STATUS, type RolloutStatus } from "../protocol.ts";
import { useAction } from "../state/action.ts";
import { useInterval } from "../state/interval.ts";
import { useQuery } from "../state/query.ts";
import { ask } from "../state/session.ts";

const REFRESH_MS = 5_000;
const OPEN = new Set(["RUNNING", "PAUSED", "HALTED"]);

export function RolloutPage({ rollout }: { rollout: number }) {
  const query = useQuery(
    `rollout ${rollout}`,
    () => ask(ROLLOUT_STATUS, { rollout }),
    ({ noun, data }) => (noun === "rollout" ? data.rollout === rollout : noun === "firmware"),
  );
  useInterval(query.refresh, REFRESH_MS);
  return (
    <Answered query={query}>
      {(status) => (
        <>
          <Head status={status} />
          <div class="panels">
            <Panel title="Devices">
              <Ring label="Devices" slices={slices(...status.counts.map(({ counts }) => counts))} />
            </Panel>
            <Panel title="Waves">
              <Waves status={status} />
            </Panel>
            <Plan status={status} />
            <div class="wide">
              <Failures status={status} />
            </div>
          </div>
        </>
      )}
    </Answered>
  );
}

function Head({ status }: { status: RolloutStatus }) {
  const action = useAction();
  const { rollout, state } = status;
  const change = (operation: typeof ROLLOUT_PAUSE, done: string) =>
    action.run(async () => {
      await ask(operation, { rollout });
      return done;
    });
  return (
    <>
      <div class="title">
        <h1>
          {status.model} {status.version} <small>rollout #{rollout}</small>
        </h1>
        <Badge tone={STATE_TONES[state] ?? "calm"}>{state.toLowerCase()}</Badge>
        {state === "RUNNING" && (
          <Button needs={ROLLOUT_PAUSE} disabled={action.busy} onClick={() => change(ROLLOUT_PAUSE, "Paused.")}>
            Pause
          </Button>
        )}
        {(state === "PAUSED" || state === "HALTED") && (
          <Button needs={ROLLOUT_RESUME} disabled={action.busy} onClick={() => change(ROLLOUT_RESUME, "Resumed.")}>
            Resume
          </Button>
        )}
        {OPEN.has(state) && (
          <Button
            needs={ROLLOUT_ABORT}
            type="button"
            class="danger"
            disabled={action.busy}
            onClick={() => change(ROLLOUT_ABORT, "Aborted: devices in progress may finish.")}
          >
            Abort
          </Button>
        )}
      </div>
      {status.reason && <Notice tone={STATE_TONES[state] ?? "calm"}>{status.reason}</Notice>}
      {OPEN.has(state) && status.doing !== status.reason && <p>{status.doing}</p>}
      <Outcome action={action} />
    </>
  );
}

function Waves({ status }: { status: RolloutStatus }) {
  return (
    <ol class="waves">
      {status.counts.map(({ wave, devices, counts }) => (
        <li
          key={wave}
          class={wave > status.wave ? "later" : ""}
          aria-current={wave === status.wave ? "step" : undefined}
        >
          <b>{wave === 0 ? "Outside of waves" : `Wave ${wave}`}</b> <small>{plural(devices, "device")}</small>
          <Stack label={`Wave ${wave}`} slices={slices(counts)} />
        </li>
      ))}
    </ol>
  );
}

function Plan({ status }: { status: RolloutStatus }) {
  const { plan } = status;
  return (
    <Panel title="Plan">
      <Facts
        facts={[
          ["Waves", plan.waves?.join(", ")],
          ["Success share", `${plan.success_percent}%`],
          ["Failure limit", plan.failure_limit],
          ["Soak time", time(plan.soak_s)],
          ["Silence limit", time(plan.silence_s)],
          ["Time window", plan.window ? `${plan.window} ${plan.zone}` : "at any time"],
          ["Tags", status.tags.join(", ") || "–"],
          ["By", status.author],
          ["Started", <Ago at={status.created_at} />],
          ["Ended", status.ended_at ? <Ago at={status.ended_at} /> : "–"],
        ]}
      />
    </Panel>
  );
}

function time(seconds: number | undefined) {
  return seconds === undefined ? "–" : duration(seconds);
}

function Failures({ status }: { status: RolloutStatus }) {
  return (
    <Panel title="Failures">
      {status.failures.length === 0 ? (
        <Empty>No failures.</Empty>
      ) : (
        <Table label="Failures" head={["Device", "Wave", "State", "Reason", "Time"]}>
          {status.failures.map((failure) => (
            <tr key={failure.client_id}>
              <th scope="row">
                <a href={href("device", failure.client_id)}>{failure.client_id}</a>
              </th>
              <td>{failure.wave}</td>
              <td>
                <Badge tone={failure.forgiven ? "calm" : "bad"}>
                  {failure.state.toLowerCase().replace("_", " ")}
                  {failure.forgiven && ", waived"}
                </Badge>
              </td>
              <td>{failure.reason ?? "–"}</td>
              <td>
                <Ago at={failure.at} />
              </td>
            </tr>
          ))}
        </Table>
      )}
      {status.failure_count > status.failures.length && (
        <small>
          The latest of {status.failure_count} failures; <code>mdm rollout history {status.rollout}</code> lists
          all.
        </small>
      )}
    </Panel>
  );
}
