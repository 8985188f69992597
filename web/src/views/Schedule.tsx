import { Ago, Answered, Facts, Panel } from "../components/basics.tsx";
import { ConfirmButton, DialogButton, OperationForm } from "../components/form.tsx";
import { timeIn } from "../lib/text.ts";
import {
  SCHEDULE_CLEAR,
  SCHEDULE_SET,
  SCHEDULE_SHOW,
  type RotationScheduleView,
  type ScheduleSet,
} from "../protocol.ts";
import { useQuery } from "../state/query.ts";
import { ask } from "../state/session.ts";

const HERE = Intl.DateTimeFormat().resolvedOptions().timeZone;
const SHOWN = 3;

/** When all devices are queued for a rotation, and how to change that. */
export function Schedule() {
  const query = useQuery(
    "schedule",
    () => ask(SCHEDULE_SHOW, {}),
    ({ noun, verb }) => noun === "schedule" || verb === "scheduled",
  );
  return (
    <Panel title="Schedule">
      <Answered query={query}>{(schedule) => <Shown schedule={schedule} refresh={query.refresh} />}</Answered>
    </Panel>
  );
}

function Shown({ schedule, refresh }: { schedule: RotationScheduleView; refresh: () => void }) {
  const { expression, zone, author, next, last_fire_at: last } = schedule;
  return (
    <>
      <Facts
        facts={[
          ["Schedule", expression === "" ? "never" : <code>{expression}</code>],
          ["Time zone", zone],
          ["From", author === null ? "the rotator's settings" : `set by ${author}`],
          ["Last run", <Ago at={last} />],
          [
            "Next runs",
            next.length === 0 ? "none" : next.slice(0, SHOWN).map((at) => <div key={at}>{timeIn(zone, at)}</div>),
          ],
        ]}
      />
      <footer>
        {author !== null && (
          <ConfirmButton
            label="Use the settings"
            title="Return to the schedule of the rotator's settings?"
            verb="Return"
            needs={SCHEDULE_CLEAR}
            run={async () => {
              await ask(SCHEDULE_CLEAR, {});
              refresh();
              return undefined;
            }}
          >
            It is the one in MDM_ROTATION_SCHEDULE. It counts from now.
          </ConfirmButton>
        )}
        <DialogButton label="Change schedule" title="Change schedule" needs={SCHEDULE_SET}>
          {(close) => (
            <OperationForm<ScheduleSet>
              specs={{
                expression: {
                  label: "Schedule",
                  initial: expression,
                  empty: "",
                  placeholder: "never",
                  maxLength: 200,
                  hint: "Minute, hour, day, month and weekday as in cron: 30 3 * * 0 is Sundays at 3:30, 0 8 * * 6#1 the first Saturday of a month at 8:00. Empty for never.",
                },
                zone: { label: "Time zone", options: zones(), initial: author === null ? HERE : zone },
              }}
              verb="Save"
              cancel={close}
              run={async (asked) => {
                await ask(SCHEDULE_SET, asked);
                refresh();
                close();
                return undefined;
              }}
            />
          )}
        </DialogButton>
      </footer>
    </>
  );
}

function zones(): [string, string][] {
  return ["UTC", ...Intl.supportedValuesOf("timeZone").filter((name) => name !== "UTC")].map((name) => [
    name,
    name,
  ]);
}
