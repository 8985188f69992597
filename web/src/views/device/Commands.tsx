import { Ago, Answered, Badge, Empty, Panel, Table, type Tone } from "../../components/basics.tsx";
import { OperationForm } from "../../components/form.tsx";
import { devicesOf, reach, type Selected } from "../../components/selection.tsx";
import { href } from "../../lib/router.ts";
import { facts, plural } from "../../lib/text.ts";
import { COMMAND_LIST, COMMAND_SEND, type CommandSend, type CommandView, type Models } from "../../protocol.ts";
import { nameOf } from "../../state/fleet.ts";
import { useModels } from "../../state/models.ts";
import { useQuery } from "../../state/query.ts";
import { ask, refusalFor } from "../../state/session.ts";

const BUILT_IN = ["identify", "reboot"];
const TONES: Record<CommandView["outcome"], Tone> = {
  waiting: "busy",
  ok: "good",
  failed: "bad",
  expired: "warn",
};

/** Sends commands to a device or to many, and lists the newest results. */
export function Commands({ of }: { of: Selected }) {
  const { device } = of;
  const commands = useQuery(
    `commands ${device ?? ""}`,
    () => ask(COMMAND_LIST, device ? { device } : {}),
    (event) => event.noun === "command",
  );
  const models = useModels();
  const refusal = refusalFor(COMMAND_SEND);
  return (
    <Panel title="Commands">
      {refusal ? (
        <small>{refusal}</small>
      ) : (
        <Answered query={models}>
          {(found) => (
            <Send key={JSON.stringify(of)} of={of} names={namesFor(found, of)} sent={commands.refresh} />
          )}
        </Answered>
      )}
      <Answered query={commands}>
        {({ commands: found }) =>
          found.length === 0 ? (
            <Empty>No commands yet.</Empty>
          ) : (
            <Table
              label="Commands"
              head={[...(device ? [] : ["Device"]), "Command", "By", "Time", "Outcome", "Result"]}
            >
              {found.map((command) => (
                <tr key={command.command_id}>
                  {!device && (
                    <th scope="row">
                      <a href={href("device", command.client_id, "commands")}>{nameOf(command.client_id)}</a>
                    </th>
                  )}
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

/** The commands that all of these devices know. */
function namesFor({ models }: Models, of: Selected): string[] {
  const codes = new Set(devicesOf(of).map(({ model }) => model));
  const known = models.filter(({ code }) => codes.has(code)).map(({ commands }) => commands);
  const [first = [], ...others] = known;
  return [...BUILT_IN, ...first.filter((name) => others.every((names) => names.includes(name)))];
}

interface SendProps {
  readonly of: Selected;
  readonly names: readonly string[];
  readonly sent: () => void;
}

/** For many devices it asks once more, with their number. */
function Send({ of, names, sent }: SendProps) {
  const isOne = of.device !== undefined;
  return (
    <OperationForm<CommandSend>
      specs={{
        name: { label: "Command", options: names.map((name) => [name, name] as const) },
        arguments: { label: "Arguments", kind: "line", placeholder: "{}", hint: "A JSON object; may be empty." },
      }}
      layout="line"
      verb={isOne ? "Send" : `Send to ${plural(devicesOf(of).length, "device")}`}
      sure={isOne ? undefined : (asked) => `${asked.name} for ${reach(of)}?`}
      run={async (asked) => {
        const { commands, skipped } = await ask(COMMAND_SEND, { ...of, ...asked });
        sent();
        const left =
          skipped.length > 0 ? `; ${plural(skipped.length, "device")} left out, as they are disabled` : "";
        return isOne
          ? `${asked.name} was sent; the result appears below.`
          : `${asked.name} was sent to ${plural(commands.length, "device")}${left}. The results appear below.`;
      }}
    />
  );
}
