import { useState } from "preact/hooks";

import { Ago, Answered, Empty, Panel } from "../../components/basics.tsx";
import { SelectField } from "../../components/fields.tsx";
import { Trend } from "../../components/Trend.tsx";
import { amount } from "../../lib/vitals.ts";
import { VITALS_SHOW, type VitalView } from "../../protocol.ts";
import { useInterval } from "../../state/interval.ts";
import { useQuery } from "../../state/query.ts";
import { ask } from "../../state/session.ts";

const TIMES = [
  ["86400", "a day"],
  ["604800", "a week"],
  ["2592000", "30 days"],
] as const;
const REFRESH_MS = 60_000;

/** What a device measures of itself, each vital with its course. */
export function Vitals({ device }: { device: string }) {
  const [since, setSince] = useState<string>(TIMES[1][0]);
  const query = useQuery(`vitals ${device} ${since}`, () => ask(VITALS_SHOW, { device, since_s: Number(since) }));
  useInterval(query.refresh, REFRESH_MS);
  return (
    <Panel
      title="Vitals"
      actions={
        <SelectField
          label="Of the last"
          value={since}
          options={TIMES}
          onChange={(event) => setSince(event.currentTarget.value)}
        />
      }
    >
      <Answered query={query}>
        {({ vitals }) =>
          vitals.length === 0 ? (
            <Empty>The device has reported none in this time. Its firmware may send them on up/vitals.</Empty>
          ) : (
            <div class="trends">
              {vitals.map((vital) => (
                <Vital key={vital.name} device={device} since={since} vital={vital} />
              ))}
            </div>
          )
        }
      </Answered>
    </Panel>
  );
}

interface VitalProps {
  readonly device: string;
  readonly since: string;
  readonly vital: VitalView;
}

function Vital({ device, since, vital: { name, last, at } }: VitalProps) {
  const query = useQuery(`vital ${device} ${name} ${since} ${at}`, () =>
    ask(VITALS_SHOW, { device, name, since_s: Number(since) }),
  );
  return (
    <figure>
      <figcaption>
        <b>{name}</b> {amount(name, last)}{" "}
        <small>
          <Ago at={at} />
        </small>
      </figcaption>
      <Answered query={query}>{({ points }) => <Trend name={name} points={points} />}</Answered>
    </figure>
  );
}
