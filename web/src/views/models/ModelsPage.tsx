import { Answered, Empty, Table } from "../../components/basics.tsx";
import { ConfirmButton, DialogButton } from "../../components/form.tsx";
import { href } from "../../lib/router.ts";
import { plural } from "../../lib/text.ts";
import { MODEL_ADD, MODEL_REMOVE, MODEL_UPDATE, type ModelView } from "../../protocol.ts";
import { useModels } from "../../state/models.ts";
import { ask } from "../../state/session.ts";
import { AddModel, ChangeModel } from "./ModelForm.tsx";

/** The device models: chip, settings, commands. */
export function ModelsPage() {
  const models = useModels();
  return (
    <>
      <div class="title">
        <h1>Models</h1>
        <DialogButton label="Add model" title="Add model" tone="primary" needs={MODEL_ADD}>
          {(close) => <AddModel added={close} />}
        </DialogButton>
      </div>
      <p>A model is a kind of board: its chip, its settings and its commands. Each device is of one model.</p>
      <Answered query={models}>
        {({ models: found }) =>
          found.length === 0 ? (
            <Empty>No models yet. Add the first one; then add devices of it.</Empty>
          ) : (
            <Table
              label="Models"
              head={["Model", "Chip", "App partition", "Settings", "Commands", "Devices", "Actions"]}
            >
              {found.map((model) => (
                <Row key={model.code} model={model} />
              ))}
            </Table>
          )
        }
      </Answered>
    </>
  );
}

function Row({ model }: { model: ModelView }) {
  const { code, name, chip, slot_size_bytes: size, config_schema: schema, commands, devices } = model;
  return (
    <tr>
      <th scope="row">
        {code} {name && <small>{name}</small>}
      </th>
      <td>{chip}</td>
      <td>{(size / 1024).toLocaleString()} KiB</td>
      <td>
        {schema === null ? "not checked" : Object.keys((schema.properties ?? {}) as object).join(", ") || "none"}
      </td>
      <td>{["reboot", "identify", ...commands].join(", ")}</td>
      <td>
        <a href={href("devices", `model:${code}`)}>{devices.toLocaleString()}</a>
      </td>
      <td class="actions">
        <DialogButton
          label={
            <>
              Change<span class="unseen"> {code}</span>
            </>
          }
          title={`Change ${code}`}
          needs={MODEL_UPDATE}
        >
          {(close) => <ChangeModel model={model} close={close} />}
        </DialogButton>
        <ConfirmButton
          label={
            <>
              Remove<span class="unseen"> {code}</span>
            </>
          }
          title={`Remove ${code}?`}
          tone="danger"
          verb="Remove model"
          needs={MODEL_REMOVE}
          run={async () => {
            await ask(MODEL_REMOVE, { code });
            return undefined;
          }}
        >
          {devices > 0
            ? `It has ${plural(devices, "device")}, and can only be removed without.`
            : "It can only be removed if it has no images; nothing else is lost."}
        </ConfirmButton>
      </td>
    </tr>
  );
}
