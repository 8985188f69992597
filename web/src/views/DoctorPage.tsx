import { Answered, Badge, Empty, Notice, Panel, Table } from "../components/basics.tsx";
import { ConfirmButton } from "../components/form.tsx";
import { href } from "../lib/router.ts";
import { plural } from "../lib/text.ts";
import {
  DOCTOR,
  DOCTOR_REPAIR,
  FIRMWARE_DOCTOR,
  FIRMWARE_DOCTOR_REPAIR,
  type Diagnosis,
  type Operation,
} from "../protocol.ts";
import { fleet } from "../state/fleet.ts";
import { useQuery } from "../state/query.ts";
import { ask, refusalFor } from "../state/session.ts";

/** Whether the stores agree with each other, and what to do where they do not. */
export function DoctorPage() {
  const refusal = refusalFor(DOCTOR);
  return (
    <>
      <h1>Doctor</h1>
      {refusal ? (
        <Notice tone="warn">{refusal}</Notice>
      ) : (
        <>
          <Examination title="Devices and accounts" look={DOCTOR} repair={DOCTOR_REPAIR} />
          <Examination title="Images and firmware" look={FIRMWARE_DOCTOR} repair={FIRMWARE_DOCTOR_REPAIR} />
        </>
      )}
    </>
  );
}

interface Props {
  readonly title: string;
  readonly look: Operation<object, Diagnosis>;
  readonly repair: Operation<object, Diagnosis>;
}

function Examination({ title, look, repair }: Props) {
  const query = useQuery(title, () => ask(look, {}));
  const open = query.data?.findings.filter(({ repaired }) => !repaired) ?? [];
  return (
    <Panel
      title={title}
      actions={
        <span class="buttons">
          <button type="button" onClick={query.refresh}>
            Look again
          </button>
          {open.length > 0 && (
            <ConfirmButton
              label="Repair"
              title="Repair?"
              verb="Repair what can be"
              needs={repair}
              run={async () => {
                const { findings } = await ask(repair, {});
                query.refresh();
                return `${plural(findings.filter(({ repaired }) => repaired).length, "finding")} repaired.`;
              }}
            >
              What can be put right without a person is; no device is locked out by it. Each finding says what to
              do where it cannot.
            </ConfirmButton>
          )}
        </span>
      }
    >
      <Answered query={query}>
        {({ devices, findings }) =>
          findings.length === 0 ? (
            <Empty>All is well: {plural(devices, "device")} compared.</Empty>
          ) : (
            <Table label={title} head={["About", "Problem", "What to do"]}>
              {findings.map(({ subject, problem, remedy, repaired }) => (
                <tr key={`${subject} ${problem}`}>
                  <th scope="row">
                    {fleet.value.devices.some(({ client_id: id }) => id === subject) ? (
                      <a href={href("device", subject)}>{subject}</a>
                    ) : (
                      subject
                    )}
                  </th>
                  <td>{problem}</td>
                  <td>{repaired ? <Badge tone="good">repaired</Badge> : remedy}</td>
                </tr>
              ))}
            </Table>
          )
        }
      </Answered>
    </Panel>
  );
}
