import { Ago, Answered, Badge, Empty, Panel, Table, type Tone } from "../../components/basics.tsx";
import { Outcome, SelectField, TextField } from "../../components/fields.tsx";
import { asObject } from "../../lib/fields.ts";
import { fromJson } from "../../lib/json.ts";
import { facts } from "../../lib/text.ts";
import { COMMAND_LIST, COMMAND_SEND, MODEL_LIST, type CommandView } from "../../protocol.ts";
import { useAction } from "../../state/action.ts";
import { useQuery } from "../../state/query.ts";
import { ask } from "../../state/session.ts";

const BUILT_IN = ["identify", "reboot"];
const TONES: Record<CommandView["outcome"], Tone> = {
  waiting: "busy",
  ok: "good",
  failed: "bad",
  expired: "warn",
};

/** Sends commands to a device and lists their results. */
export function Commands({ device, model }: { device: string; model: string }) {
  const commands = useQuery(
    `commands ${device}`,
    () => ask(COMMAND_LIST, { device }),
    (event) => event.noun === "command",
  );
  const names = useQuery(`commands of ${model}`, async () => {
    const { models } = await ask(MODEL_LIST, {});
    return [...BUILT_IN, ...(models.find(({ code }) => code === model)?.commands ?? [])];
  });
  return (
    <Panel title="Commands">
      <Answered query={names}>{(found) => <Form device={device} names={found} />}</Answered>
      <Answered query={commands}>
        {({ commands: found }) =>
          found.length === 0 ? (
            <Empty>No commands yet.</Empty>
          ) : (
            <Table label="Commands" head={["Command", "By", "Time", "Outcome", "Result"]}>
              {found.map((command) => (
                <tr key={command.command_id}>
                  <td>
                    {command.name} <small>{facts(command.arguments)}</small>
                  </td>
                  <td>{command.author}</td>
                  <td>
                    <Ago at={command.created_at} />
                  </td>
                  <td>
                    <Badge tone={TONES[command.outcome]}>{command.outcome}</Badge>
                  </td>
                  <td>{command.error ?? facts(command.result)}</td>
                </tr>
              ))}
            </Table>
          )
        }
      </Answered>
    </Panel>
  );
}

function Form({ device, names }: { device: string; names: readonly string[] }) {
  const action = useAction();
  const onSubmit = (event: SubmitEvent) => {
    event.preventDefault();
    const form = new FormData(event.currentTarget as HTMLFormElement);
    const [name, text] = [form.get("name"), form.get("arguments")] as [string, string];
    void action.run(async () => {
      const args = asObject(text.trim() ? fromJson(text) : {});
      if (args === undefined) {
        throw new Error('The arguments must be a JSON object, such as {"delay_s": 5}.');
      }
      await ask(COMMAND_SEND, { device, name, arguments: args });
      return `${name} was sent; the result appears below.`;
    });
  };
  return (
    <form class="line" onSubmit={onSubmit}>
      <SelectField label="Command" name="name" options={names.map((name) => [name, name])} />
      <TextField
        label="Arguments"
        name="arguments"
        placeholder="{}"
        spellcheck={false}
        hint="A JSON object; may be empty."
      />
      <button type="submit" class="primary" disabled={action.busy}>
        Send
      </button>
      <Outcome action={action} />
    </form>
  );
}
