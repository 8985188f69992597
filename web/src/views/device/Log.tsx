import { useState } from "preact/hooks";

import { Answered, Panel } from "../../components/basics.tsx";
import { LogLines } from "../../components/LogLines.tsx";
import { SelectField } from "../../components/fields.tsx";
import { LOG_LIST, type LogLineView, type LogList } from "../../protocol.ts";
import { useInterval } from "../../state/interval.ts";
import { useQuery } from "../../state/query.ts";
import { ask } from "../../state/session.ts";

export type Level = LogLineView["level"];

const LEVELS = ["debug", "info", "warning", "error"] as const;
const LINES = 200;
const REFRESH_MS = 3_000;

interface Props {
  /** Whose lines. */
  readonly of: Pick<LogList, "device" | "all" | "tag" | "model">;
}

/** The newest lines of the logs of a device, or of many. */
export function Log({ of }: Props) {
  const [level, setLevel] = useState<Level>("debug");
  const query = useQuery(`log ${JSON.stringify(of)} ${level}`, () =>
    ask(LOG_LIST, { ...of, level, limit: LINES }),
  );
  useInterval(query.refresh, REFRESH_MS);
  return (
    <Panel
      title="Log"
      actions={
        <SelectField
          label="Lowest level"
          value={level}
          options={LEVELS.map((name) => [name, name])}
          onChange={(event) => setLevel(event.currentTarget.value as Level)}
        />
      }
    >
      <Answered query={query}>{({ lines }) => <LogLines lines={lines} named={!of.device} />}</Answered>
    </Panel>
  );
}
