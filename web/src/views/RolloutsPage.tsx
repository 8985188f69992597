import { useState } from "preact/hooks";

import { Ago, Answered, Badge, Empty, Panel, Table } from "../components/basics.tsx";
import { Button } from "../components/Button.tsx";
import { STATE_TONES } from "../lib/rollouts.ts";
import { go, href } from "../lib/router.ts";
import { ROLLOUT_START, ROLLOUT_LIST } from "../protocol.ts";
import { useQuery } from "../state/query.ts";
import { ask } from "../state/session.ts";
import { StartRollout } from "./StartRollout.tsx";

export function RolloutsPage() {
  const [starting, setStarting] = useState(false);
  const query = useQuery(
    "rollouts",
    () => ask(ROLLOUT_LIST, {}),
    (event) => event.noun === "rollout",
  );
  return (
    <>
      <div class="title">
        <h1>Firmware rollouts</h1>
        <Button needs={ROLLOUT_START} class="primary" onClick={() => setStarting(true)}>
          Start rollout
        </Button>
      </div>
      <Panel title="All rollouts">
        <Answered query={query}>
          {({ rollouts }) =>
            rollouts.length === 0 ? (
              <Empty>
                No rollouts yet. <a href={href("firmware")}>Upload an image</a>, then start one.
              </Empty>
            ) : (
              <Table label="Rollouts" head={["Rollout", "Image", "State", "Wave", "By", "Started"]}>
                {rollouts.map((rollout) => (
                  <tr key={rollout.rollout}>
                    <th scope="row">
                      <a href={href("rollout", rollout.rollout)}>#{rollout.rollout}</a>
                    </th>
                    <td>
                      {rollout.model} {rollout.version}
                    </td>
                    <td>
                      <Badge tone={STATE_TONES[rollout.state] ?? "calm"}>{rollout.state.toLowerCase()}</Badge>{" "}
                      <small>{rollout.reason}</small>
                    </td>
                    <td>
                      {rollout.wave} of {rollout.waves}
                    </td>
                    <td>{rollout.author}</td>
                    <td>
                      <Ago at={rollout.created_at} />
                    </td>
                  </tr>
                ))}
              </Table>
            )
          }
        </Answered>
      </Panel>
      {starting && <StartRollout close={() => setStarting(false)} started={(rollout) => go("rollout", rollout)} />}
    </>
  );
}
