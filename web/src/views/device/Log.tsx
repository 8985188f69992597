import { useState } from "preact/hooks";

import { Answered, Badge, Empty, Panel, type Tone } from "../../components/basics.tsx";
import { SelectField } from "../../components/fields.tsx";
import { time } from "../../lib/text.ts";
import { LOG_LIST, type LogLineView } from "../../protocol.ts";
import { useInterval } from "../../state/interval.ts";
import { useQuery } from "../../state/query.ts";
import { ask } from "../../state/session.ts";

const LEVELS = ["debug", "info", "warning", "error"] as const;
const TONES: Record<LogLineView["level"], Tone> = { debug: "calm", info: "busy", warning: "warn", error: "bad" };
const LINES = 200;
const REFRESH_MS = 3_000;

/** The newest lines of a device's log, newest last. */
export function Log({ device }: { device: string }) {
  const [level, setLevel] = useState<LogLineView["level"]>("debug");
  const query = useQuery(`log ${device} ${level}`, () => ask(LOG_LIST, { device, level, limit: LINES }));
  useInterval(query.refresh, REFRESH_MS);
  return (
    <Panel
      title="Log"
      actions={
        <SelectField
          label="Lowest level"
          value={level}
          options={LEVELS.map((name) => [name, name])}
          onChange={(event) => setLevel(event.currentTarget.value as LogLineView["level"])}
        />
      }
    >
      <Answered query={query}>
        {({ lines }) =>
          lines.length === 0 ? (
            <Empty>No lines of this level or higher.</Empty>
          ) : (
            <ol class="log">
              {lines.map((line) => (
                <li key={`${line.boot} ${line.number}`}>
                  <time dateTime={line.received_at}>{time(line.received_at)}</time>
                  <Badge tone={TONES[line.level]}>{line.level}</Badge>
                  <code>
                    {line.tag && <b>{line.tag} </b>}
                    {line.message}
                  </code>
                </li>
              ))}
            </ol>
          )
        }
      </Answered>
    </Panel>
  );
}
