import { useState } from "preact/hooks";

import { Answered, Empty, Panel, Table } from "../../components/basics.tsx";
import { SelectField } from "../../components/fields.tsx";
import { amount } from "../../lib/vitals.ts";
import { VITALS_COMPARE } from "../../protocol.ts";
import { modelOptions, useModels } from "../../state/models.ts";
import { useQuery } from "../../state/query.ts";
import { ask } from "../../state/session.ts";

const SINCE_S = 21_600;

/** The vitals of a model's devices by the firmware that they ran, to see what a new version changes. */
export function VitalsByVersion() {
  const models = useModels();
  const [chosen, choose] = useState<string>();
  return (
    <Answered query={models}>
      {(found) => {
        const model = chosen ?? found.models[0]?.code;
        return (
          model !== undefined && (
            <Panel
              title="Vitals by firmware, of the last six hours"
              actions={
                <SelectField
                  label="Model"
                  value={model}
                  options={modelOptions(found)}
                  onChange={(event) => choose(event.currentTarget.value)}
                />
              }
            >
              <OfModel model={model} />
            </Panel>
          )
        );
      }}
    </Answered>
  );
}

function OfModel({ model }: { model: string }) {
  const query = useQuery(`vitals of ${model}`, () => ask(VITALS_COMPARE, { model, since_s: SINCE_S }));
  return (
    <Answered query={query}>
      {({ vitals }) =>
        vitals.length === 0 ? (
          <Empty>No device of the model has reported vitals.</Empty>
        ) : (
          <Table label="Vitals by firmware" head={["Vital", "Firmware", "Devices", "5 %", "Median", "95 %"]}>
            {vitals.map(({ name, version, devices, p5, median, p95 }) => (
              <tr key={`${name} ${version ?? ""}`}>
                <th scope="row">{name}</th>
                <td>{version ?? "unknown"}</td>
                <td>{devices.toLocaleString()}</td>
                <td>{amount(name, p5)}</td>
                <td>{amount(name, median)}</td>
                <td>{amount(name, p95)}</td>
              </tr>
            ))}
          </Table>
        )
      }
    </Answered>
  );
}
