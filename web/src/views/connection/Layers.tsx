import { useState } from "preact/hooks";

import { Ago, Answered, Badge, Empty, Panel, Table } from "../../components/basics.tsx";
import { Button } from "../../components/Button.tsx";
import { layerFor, layerValues, targetOf } from "../../lib/connections.ts";
import {
  CONNECTION_SET,
  CONNECTION_HISTORY,
  CONNECTION_ROLLBACK,
  type ConnectionLayerView,
  type ConnectionTarget,
} from "../../protocol.ts";
import { useQuery } from "../../state/query.ts";
import { ask } from "../../state/session.ts";
import { ConfirmConnection } from "./ConfirmConnection.tsx";

const PAGE = 100;

interface Props {
  readonly change: (target: ConnectionTarget) => void;
  readonly saved: (done: string) => void;
}

/** All layers that there were, newest first. */
export function Layers({ change, saved }: Props) {
  const [before, setBefore] = useState<number>();
  const [restoring, setRestoring] = useState<number>();
  const query = useQuery(
    `connection layers ${before ?? ""}`,
    () => ask(CONNECTION_HISTORY, { ...(before && { before }), limit: PAGE }),
    ({ noun, verb }) => noun === "connection" && verb === "changed",
  );
  return (
    <Panel title="Layers">
      <Answered query={query}>
        {({ layers, next }) => (
          <>
            {layers.length === 0 ? (
              <Empty>No layers yet.</Empty>
            ) : (
              <Table label="Layers" head={["Number", "For", "Values", "By", "Time", "Actions"]}>
                {layers.map((layer) => (
                  <Row key={layer.number} layer={layer} change={change} restore={setRestoring} />
                ))}
              </Table>
            )}
            <footer>
              {before !== undefined && (
                <button type="button" onClick={() => setBefore(undefined)}>
                  Newest
                </button>
              )}
              {next !== null && (
                <button type="button" onClick={() => setBefore(next)}>
                  Older
                </button>
              )}
            </footer>
          </>
        )}
      </Answered>
      {restoring !== undefined && (
        <ConfirmConnection
          title={`Put layer ${restoring} back?`}
          verb="Put back"
          change={(isDry) => ask(CONNECTION_ROLLBACK, { number: restoring, dry_run: isDry })}
          close={() => setRestoring(undefined)}
          saved={saved}
        />
      )}
    </Panel>
  );
}

interface RowProps {
  readonly layer: ConnectionLayerView;
  readonly change: (target: ConnectionTarget) => void;
  readonly restore: (number: number) => void;
}

function Row({ layer, change, restore }: RowProps) {
  const { number } = layer;
  const target = targetOf(layer);
  return (
    <tr>
      <td>
        {number} {layer.in_force && <Badge tone="good">in force</Badge>}
      </td>
      <td>{layerFor(layer)}</td>
      <td>{layerValues(layer)}</td>
      <td>{layer.author}</td>
      <td>
        <Ago at={layer.created_at} />
      </td>
      <td class="actions">
        {target &&
          (layer.in_force ? (
            <Button needs={CONNECTION_SET} onClick={() => change(target)}>
              Change<span class="unseen"> layer {number}</span>
            </Button>
          ) : (
            <Button needs={CONNECTION_ROLLBACK} onClick={() => restore(number)}>
              Put back<span class="unseen"> layer {number}</span>
            </Button>
          ))}
      </td>
    </tr>
  );
}
