import { Ago, Answered, Badge, Empty, Panel, Table } from "../../components/basics.tsx";
import { rotationWord } from "../../lib/census.ts";
import { ROTATION_HISTORY, type RotationEntry } from "../../protocol.ts";
import { useQuery } from "../../state/query.ts";
import { ask } from "../../state/session.ts";

export function RotationHistory({ device }: { device: string }) {
  const query = useQuery(
    `rotations ${device}`,
    () => ask(ROTATION_HISTORY, { device }),
    (event) => event.client_id === device && event.noun === "rotation",
  );
  return (
    <Panel title="Rotations of the secret">
      <Answered query={query}>
        {({ rotations }) =>
          rotations.length === 0 ? (
            <Empty>No rotations yet.</Empty>
          ) : (
            <Table
              label="Rotations"
              head={["Generation", "Outcome", "Step", "Started", "Duration", "Refused proofs"]}
            >
              {rotations.map((rotation) => (
                <Row key={rotation.rotation_id} rotation={rotation} />
              ))}
            </Table>
          )
        }
      </Answered>
    </Panel>
  );
}

function Row({ rotation }: { rotation: RotationEntry }) {
  const { outcome } = rotation;
  return (
    <tr>
      <td>{rotation.generation}</td>
      <td>
        <Badge tone={outcome === "DONE" ? "good" : outcome === null ? "busy" : "bad"}>
          {rotationWord(outcome ?? "PENDING")}
        </Badge>
      </td>
      <td>{rotation.step.toLowerCase()}</td>
      <td>
        <Ago at={rotation.started_at} />
      </td>
      <td>{rotation.duration_s === null ? "–" : `${rotation.duration_s.toFixed(1)} s`}</td>
      <td>{rotation.refused_proofs}</td>
    </tr>
  );
}
