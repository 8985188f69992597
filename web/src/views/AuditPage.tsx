import { useState } from "preact/hooks";

import { Ago, Answered, Empty, Panel, Table } from "../components/basics.tsx";
import { TextField } from "../components/fields.tsx";
import { toJson } from "../lib/json.ts";
import { go } from "../lib/router.ts";
import { AUDIT_LIST, type AuditView } from "../protocol.ts";
import { useQuery } from "../state/query.ts";
import { ask } from "../state/session.ts";

export function AuditPage({ subject }: { subject: string }) {
  const [actor, setActor] = useState("");
  const query = useQuery(
    `audit ${subject}/${actor}`,
    () => ask(AUDIT_LIST, { ...(subject && { subject }), ...(actor && { actor }) }),
    () => true,
  );
  const onSubmit = (event: SubmitEvent) => {
    event.preventDefault();
    const form = new FormData(event.currentTarget as HTMLFormElement);
    const [wanted, account] = [form.get("subject"), form.get("actor")] as [string, string];
    setActor(account.trim());
    go("audit", ...(wanted.trim() ? [wanted.trim()] : []));
  };
  return (
    <>
      <h1>Audit</h1>
      <form class="line" onSubmit={onSubmit}>
        <TextField label="Subject" name="subject" defaultValue={subject} hint="A client id, a model, …" />
        <TextField label="Account" name="actor" defaultValue={actor} hint="Who made the request." />
        <button type="submit">Show</button>
      </form>
      <Panel title="Newest entries">
        <Answered query={query}>
          {({ entries }) =>
            entries.length === 0 ? (
              <Empty>No matching entries.</Empty>
            ) : (
              <Table label="Audit" head={["Time", "Account", "Action", "Subject", "Before and after"]}>
                {entries.map((entry, index) => (
                  <Row key={`${entry.at} ${index}`} entry={entry} />
                ))}
              </Table>
            )
          }
        </Answered>
      </Panel>
    </>
  );
}

function Row({ entry }: { entry: AuditView }) {
  return (
    <tr>
      <td>
        <Ago at={entry.at} />
      </td>
      <td>{entry.actor}</td>
      <td>{entry.action}</td>
      <td>{entry.subject}</td>
      <td>
        {(entry.before !== null || entry.after !== null) && (
          <details>
            <summary>Show</summary>
            <pre>{toJson({ before: entry.before, after: entry.after }, 2)}</pre>
          </details>
        )}
      </td>
    </tr>
  );
}
