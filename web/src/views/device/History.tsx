import { useState } from "preact/hooks";

import { Ago, Answered, Badge, Dialog, Empty, Panel, Table } from "../../components/basics.tsx";
import { Button } from "../../components/Button.tsx";
import { Outcome } from "../../components/fields.tsx";
import { show } from "../../lib/text.ts";
import { CONFIG_DIFF, CONFIG_HISTORY, CONFIG_ROLLBACK } from "../../protocol.ts";
import { useAction } from "../../state/action.ts";
import { useQuery } from "../../state/query.ts";
import { ask } from "../../state/session.ts";

/** The versions of a device's configuration, with their changes and rollback. */
export function History({ device }: { device: string }) {
  const [shown, setShown] = useState<number>();
  const action = useAction();
  const query = useQuery(
    `history ${device}`,
    () => ask(CONFIG_HISTORY, { device }),
    (event) => event.client_id === device && event.noun === "config",
  );
  const rollBack = (version: number) =>
    action.run(async () => {
      const set = await ask(CONFIG_ROLLBACK, { device, version });
      return set.changed ? `Version ${version} was restored as version ${set.version}.` : "No changes.";
    });
  return (
    <Panel title="History">
      <Outcome action={action} />
      <Answered query={query}>
        {({ versions, desired }) => (
          <Table label="Versions" head={["Version", "By", "Time", "Outcome", "Actions"]}>
            {versions.map((entry) => (
              <tr key={entry.version}>
                <td>
                  {entry.version} {entry.version === desired && <Badge tone="busy">desired</Badge>}
                </td>
                <td>{entry.author}</td>
                <td>
                  <Ago at={entry.created_at} />
                </td>
                <td>
                  {entry.outcome ? (
                    <Badge tone={entry.outcome === "applied" ? "good" : "bad"}>{entry.outcome}</Badge>
                  ) : (
                    "not reported"
                  )}
                </td>
                <td class="actions">
                  <button type="button" onClick={() => setShown(entry.version)}>
                    Changes<span class="unseen"> of version {entry.version}</span>
                  </button>
                  {entry.version !== desired && (
                    <Button needs={CONFIG_ROLLBACK} disabled={action.busy} onClick={() => rollBack(entry.version)}>
                      Roll back<span class="unseen"> to version {entry.version}</span>
                    </Button>
                  )}
                </td>
              </tr>
            ))}
          </Table>
        )}
      </Answered>
      {shown !== undefined && <Diff device={device} version={shown} close={() => setShown(undefined)} />}
    </Panel>
  );
}

function Diff({ device, version, close }: { device: string; version: number; close: () => void }) {
  const before = version - 1;
  const query = useQuery(`diff ${device} ${version}`, () =>
    ask(CONFIG_DIFF, { device, from_version: before, to_version: version }),
  );
  return (
    <Dialog title={before === 0 ? "Version 1" : `Version ${before} to ${version}`} close={close}>
      <Answered query={query}>
        {({ changes }) =>
          changes.length === 0 ? (
            <Empty>No differences.</Empty>
          ) : (
            <Table label="Changes" head={["Setting", "Before", "After"]}>
              {changes.map((change) => (
                <tr key={change.path.join(".")} class={change.kind}>
                  <th scope="row">{change.path.join(".")}</th>
                  <td>{change.kind !== "added" && <del>{show(change.before)}</del>}</td>
                  <td>{change.kind !== "removed" && <ins>{show(change.after)}</ins>}</td>
                </tr>
              ))}
            </Table>
          )
        }
      </Answered>
    </Dialog>
  );
}
