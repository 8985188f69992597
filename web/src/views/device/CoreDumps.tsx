import { Ago, Answered, Empty, Panel, Table } from "../../components/basics.tsx";
import { Outcome } from "../../components/fields.tsx";
import { ConfirmButton } from "../../components/form.tsx";
import { bytesOf, save } from "../../flash/files.ts";
import { COREDUMP_DELETE, COREDUMP_LIST, COREDUMP_READ, type CoreDumpView } from "../../protocol.ts";
import { useAction } from "../../state/action.ts";
import { useQuery } from "../../state/query.ts";
import { ask, refusalFor } from "../../state/session.ts";

/** What a device left behind when it crashed. */
export function CoreDumps({ device }: { device: string }) {
  const action = useAction();
  const query = useQuery(
    `core dumps ${device}`,
    () => ask(COREDUMP_LIST, { device }),
    (event) => event.noun === "coredump" && event.client_id === device,
  );
  const download = (dump: CoreDumpView) =>
    action.run(async () => {
      save(`${device}-${dump.id}.core`, await read(dump));
      return "Saved. It holds what was in the device's memory; `espcoredump.py` and the program's ELF file read it.";
    });
  const refusal = refusalFor(COREDUMP_READ);
  return (
    <Panel title="Core dumps">
      <Outcome action={action} />
      <Answered query={query}>
        {({ dumps }) =>
          dumps.length === 0 ? (
            <Empty>The device has reported no crash.</Empty>
          ) : (
            <Table label="Core dumps" head={["Reason", "Firmware", "Size", "Stored", "Actions"]}>
              {dumps.map((dump) => (
                <tr key={dump.id}>
                  <th scope="row">{dump.reason ?? "unknown"}</th>
                  <td>{dump.image_version ?? dump.firmware_version ?? "unknown"}</td>
                  <td>{Math.ceil(dump.size_bytes / 1024).toLocaleString()} KiB</td>
                  <td>
                    <Ago at={dump.stored_at} />
                  </td>
                  <td class="actions">
                    <button
                      type="button"
                      disabled={action.busy || refusal !== undefined}
                      title={refusal}
                      onClick={() => void download(dump)}
                    >
                      Download
                    </button>
                    <ConfirmButton
                      label="Delete"
                      title="Delete the core dump?"
                      verb="Delete"
                      tone="danger"
                      needs={COREDUMP_DELETE}
                      run={async () => {
                        await ask(COREDUMP_DELETE, { id: dump.id });
                        query.refresh();
                        return undefined;
                      }}
                    >
                      It cannot be brought back.
                    </ConfirmButton>
                  </td>
                </tr>
              ))}
            </Table>
          )
        }
      </Answered>
    </Panel>
  );
}

async function read({ id, size_bytes: size }: CoreDumpView): Promise<Uint8Array> {
  const whole = new Uint8Array(size);
  for (let offset = 0; offset < size;) {
    const piece = bytesOf((await ask(COREDUMP_READ, { id, offset })).data);
    if (piece.length === 0) {
      throw new Error("The stored core dump is shorter than it was.");
    }
    whole.set(piece, offset);
    offset += piece.length;
  }
  return whole;
}
