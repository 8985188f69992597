import { useState } from "preact/hooks";

import { Answered, Empty, Panel } from "../../components/basics.tsx";
import { EventLines } from "../../components/EventLines.tsx";
import { EVENT_LIST } from "../../protocol.ts";
import { useQuery } from "../../state/query.ts";
import { ask } from "../../state/session.ts";

const PAGE = 50;
const MOST = 500;

/** What has happened to a device, newest first. */
export function Events({ device }: { device: string }) {
  const [limit, setLimit] = useState(PAGE);
  const query = useQuery(
    `events ${device} ${limit}`,
    () => ask(EVENT_LIST, { device, limit }),
    ({ client_id: about }) => about === device,
  );
  return (
    <Panel title="What has happened">
      <Answered query={query}>
        {({ events, next }) => (
          <>
            {events.length === 0 ? (
              <Empty>Nothing in the time that events are kept.</Empty>
            ) : (
              <EventLines events={events} named={false} />
            )}
            {next !== null && limit < MOST && (
              <footer>
                <button type="button" onClick={() => setLimit(MOST)}>
                  Show more
                </button>
              </footer>
            )}
          </>
        )}
      </Answered>
    </Panel>
  );
}
