import { useMemo, useState } from "preact/hooks";

import { Answered, Badge, Dialog, Loading, Notice, Table } from "../../components/basics.tsx";
import { Button } from "../../components/Button.tsx";
import { Labelled, Outcome, SelectField } from "../../components/fields.tsx";
import { save } from "../../flash/files.ts";
import { devicesIn, tableOf, type ImportLine, type ImportOutcome } from "../../lib/imports.ts";
import { sideBySide } from "../../lib/sideBySide.ts";
import { plural } from "../../lib/text.ts";
import { RefusedError } from "../../mqtt/asker.ts";
import { DEVICE_ADD, DEVICE_PROVISION, type Models } from "../../protocol.ts";
import { useAction, type Action } from "../../state/action.ts";
import { fleet } from "../../state/fleet.ts";
import { modelOptions, useModels } from "../../state/models.ts";
import { asError } from "../../state/query.ts";
import { ask } from "../../state/session.ts";

const SIDE_BY_SIDE = 8;
/** More lines are not listed. */
const LISTED = 500;
type Outcomes = ReadonlyMap<number, ImportOutcome>;

/** Adds the devices of a CSV file; those that exist stay as they are, so that it can be repeated. */
export function ImportDevices({ close }: { close: () => void }) {
  const models = useModels();
  return (
    <Dialog title="Import devices" close={close}>
      <Answered query={models}>
        {(found) => (fleet.value.complete ? <Import models={found} /> : <Loading />)}
      </Answered>
    </Dialog>
  );
}

function Import({ models }: { models: Models }) {
  const [file, setFile] = useState<Uint8Array>();
  const [model, setModel] = useState("");
  const [outcomes, setOutcomes] = useState<Outcomes>(new Map());
  const action = useAction();
  const read = useMemo(() => {
    try {
      const codes = models.models.map(({ code }) => code);
      return file === undefined ? undefined : devicesIn(file, model, codes);
    } catch (error) {
      return asError(error);
    }
  }, [file, model, models]);
  const choose = async (chosen: File | undefined) => {
    setFile(chosen && new Uint8Array(await chosen.arrayBuffer()));
    setOutcomes(new Map());
    action.reset();
  };
  const add = (lines: readonly ImportLine[]) =>
    action.run(async () => {
      const found = new Map(outcomes);
      await sideBySide(lines, SIDE_BY_SIDE, async (line) => {
        found.set(line.number, await added(line));
        setOutcomes(new Map(found));
      });
      return undefined;
    });
  return (
    <div class="grid">
      <p>
        A CSV file, as a spreadsheet saves it: its first line names the columns <b>name</b>, <b>tags</b> and{" "}
        <b>model</b>; others are ignored. Model and name identify a device: one that exists is left as it is.
      </p>
      <Labelled label="File">
        {(attributes) => (
          <input
            {...attributes}
            type="file"
            accept=".csv,.tsv,.txt"
            disabled={action.busy}
            onChange={(event) => void choose(event.currentTarget.files?.[0])}
          />
        )}
      </Labelled>
      <SelectField
        label="Model of lines without one"
        value={model}
        options={[["", "none"], ...modelOptions(models)]}
        onChange={(event) => setModel(event.currentTarget.value)}
      />
      {read instanceof Error && <Notice tone="bad">{read.message}</Notice>}
      {read !== undefined && !(read instanceof Error) && (
        <Found {...read} outcomes={outcomes} action={action} add={add} />
      )}
    </div>
  );
}

interface FoundProps {
  readonly lines: readonly ImportLine[];
  readonly ignored: readonly string[];
  readonly outcomes: Outcomes;
  readonly action: Action;
  readonly add: (lines: readonly ImportLine[]) => void;
}

function Found({ lines, ignored, outcomes, action, add }: FoundProps) {
  const { devices } = fleet.value;
  const clientIds = useMemo(
    () => new Map(devices.map((it) => [`${it.model} ${it.name}`, it.client_id])),
    [devices],
  );
  const all = new Map(
    lines.flatMap((line): [number, ImportOutcome][] => {
      const clientId = clientIds.get(`${line.model} ${line.name}`);
      const known = outcomes.get(line.number);
      return known !== undefined
        ? [[line.number, known]]
        : line.fault !== undefined
          ? [[line.number, { result: "refused", reason: line.fault }]]
          : clientId !== undefined
            ? [[line.number, { result: "present", clientId }]]
            : [];
    }),
  );
  const open = lines.filter(({ number, fault }) => fault === undefined && all.get(number)?.clientId === undefined);
  const count = (result: ImportOutcome["result"]) => [...all.values()].filter((it) => it.result === result).length;
  // What is wrong comes first.
  const ordered = [...lines].sort((one, other) => rank(all.get(one.number)) - rank(all.get(other.number)));
  return (
    <>
      <Notice tone={count("refused") > 0 ? "warn" : "good"}>
        {plural(lines.length, "line")}: {plural(lines.length - all.size, "device")} to be added, {count("added")}{" "}
        added, {count("present")} present already, {count("refused")} refused.
        {ignored.length > 0 && ` Ignored columns: ${ignored.join(", ")}.`}
      </Notice>
      {action.busy && (
        <div class="progress">
          <progress aria-label="Progress" value={all.size / lines.length} />
          <span role="status">
            {all.size} of {lines.length}
          </span>
        </div>
      )}
      <Outcome action={action} />
      <footer>
        <Save lines={lines} outcomes={all} busy={action.busy} />
        {open.length > 0 && (
          <Button needs={DEVICE_ADD} class="primary" disabled={action.busy} onClick={() => add(open)}>
            Add {plural(open.length, "device")}
          </Button>
        )}
      </footer>
      <Table label="Lines" head={["Line", "Result", "Name", "Model", "Tags"]}>
        {ordered.slice(0, LISTED).map((line) => (
          <tr key={line.number}>
            <td>{line.number}</td>
            <td>
              <Result outcome={all.get(line.number)} />
            </td>
            <th scope="row">{line.name}</th>
            <td>{line.model}</td>
            <td>{line.tags.join(", ")}</td>
          </tr>
        ))}
      </Table>
      {lines.length > LISTED && <small>{plural(lines.length - LISTED, "more line")} not listed.</small>}
    </>
  );
}

function rank(outcome: ImportOutcome | undefined): number {
  return outcome === undefined ? 1 : outcome.result === "refused" ? 0 : 2;
}

function Result({ outcome }: { outcome: ImportOutcome | undefined }) {
  if (outcome === undefined) {
    return <Badge tone="calm">will be added</Badge>;
  }
  const { result, reason } = outcome;
  return (
    <>
      <Badge tone={result === "refused" ? "bad" : result === "added" ? "good" : "calm"}>{result}</Badge>{" "}
      {reason && <small>{reason}</small>}
    </>
  );
}

/** The table with the client ids, alone and in one ZIP file with the packages. */
function Save({ lines, outcomes, busy }: { lines: readonly ImportLine[]; outcomes: Outcomes; busy: boolean }) {
  const action = useAction();
  const clientIds = [...outcomes.values()].flatMap(({ clientId }) => clientId ?? []);
  const table = () => tableOf(lines, outcomes);
  const saveAll = () =>
    action.run(async () => {
      const { strToU8, zipSync } = await import("fflate");
      const files: Record<string, [Uint8Array, { os: number; attrs: number }]> = {};
      const put = (name: string, text: string) => {
        files[name] = [strToU8(text), { os: 3, attrs: 0o600 << 16 }];
      };
      put("devices.csv", table());
      await sideBySide(clientIds, SIDE_BY_SIDE, async (device) => {
        put(`${device}.json`, `${JSON.stringify(await ask(DEVICE_PROVISION, { device }), null, 2)}\n`);
      });
      save("devices.zip", zipSync(files), "application/zip");
      return `${plural(clientIds.length, "package")} saved. Protect the file like a password.`;
    });
  return clientIds.length === 0 ? null : (
    <>
      <Outcome action={action} />
      <button type="button" disabled={busy} onClick={() => save("devices.csv", table(), "text/csv")}>
        Download table
      </button>
      <Button needs={DEVICE_PROVISION} disabled={busy || action.busy} onClick={saveAll}>
        Download packages and table
      </Button>
    </>
  );
}

async function added({ model, name, tags }: ImportLine): Promise<ImportOutcome> {
  try {
    const device = await ask(DEVICE_ADD, { model, name, tags: [...tags], unique_name: true });
    return { result: "added", clientId: device.client_id };
  } catch (error) {
    const clientId = error instanceof RefusedError ? error.problem.details?.client_id : undefined;
    return typeof clientId === "string" && (error as RefusedError).code === "conflict"
      ? { result: "present", clientId }
      : { result: "refused", reason: asError(error).message };
  }
}
