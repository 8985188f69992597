import { Ago, Answered, Empty, Table } from "../components/basics.tsx";
import { ConfirmButton, DialogButton, OperationForm, type Specs } from "../components/form.tsx";
import { toJson } from "../lib/json.ts";
import { href } from "../lib/router.ts";
import { facts, plural } from "../lib/text.ts";
import { LAYER_LIST, LAYER_REMOVE, LAYER_SET, type LayerSet, type LayerView } from "../protocol.ts";
import { useAction } from "../state/action.ts";
import { fleet } from "../state/fleet.ts";
import { useQuery } from "../state/query.ts";
import { ask } from "../state/session.ts";
import { Outcome } from "../components/fields.tsx";

/** The settings that devices with a tag share. */
export function LayersPage() {
  const action = useAction();
  const layers = useQuery(
    "layers",
    () => ask(LAYER_LIST, {}),
    ({ noun }) => noun === "layer",
  );
  const done = (text: string) => {
    layers.refresh();
    void action.run(() => Promise.resolve(text));
  };
  return (
    <>
      <div class="title">
        <h1>Layers</h1>
        <DialogButton label="Add layer" title="Add layer" tone="primary" needs={LAYER_SET}>
          {(close) => <LayerForm close={close} done={done} />}
        </DialogButton>
      </div>
      <p>
        Settings that all devices with a tag share. A value of a device comes from the device itself, else from the
        layer with the highest priority, else from the defaults of its model.
      </p>
      <Outcome action={action} />
      <Answered query={layers}>
        {({ layers: found }) =>
          found.length === 0 ? (
            <Empty>No layers yet.</Empty>
          ) : (
            <Table label="Layers" head={["Tag", "Priority", "Settings", "Devices", "By", "Changed", "Actions"]}>
              {found.map((layer) => (
                <Row key={layer.tag} layer={layer} done={done} />
              ))}
            </Table>
          )
        }
      </Answered>
    </>
  );
}

function Row({ layer, done }: { layer: LayerView; done: (text: string) => void }) {
  const { tag, priority, document, author, updated_at: at } = layer;
  const count = tagged(tag);
  return (
    <tr>
      <th scope="row">{tag}</th>
      <td>{priority}</td>
      <td>{facts(document) || "none"}</td>
      <td>
        <a href={href("devices", `tag:${tag}`)}>{count.toLocaleString()}</a>
      </td>
      <td>{author}</td>
      <td>
        <Ago at={at} />
      </td>
      <td class="actions">
        <DialogButton
          label={
            <>
              Change<span class="unseen"> {tag}</span>
            </>
          }
          title={`Layer of ${tag}`}
          needs={LAYER_SET}
        >
          {(close) => <LayerForm layer={layer} close={close} done={done} />}
        </DialogButton>
        <ConfirmButton
          label={
            <>
              Remove<span class="unseen"> {tag}</span>
            </>
          }
          title={`Remove the layer of ${tag}?`}
          verb="Remove layer"
          tone="danger"
          needs={LAYER_REMOVE}
          run={async () => {
            done(effect(tag, (await ask(LAYER_REMOVE, { tag })).devices.length));
            return undefined;
          }}
        >
          Its settings are taken from {plural(count, "device")} with this tag.
        </ConfirmButton>
      </td>
    </tr>
  );
}

interface FormProps {
  readonly layer?: LayerView;
  readonly close: () => void;
  readonly done: (text: string) => void;
}

function LayerForm({ layer, close, done }: FormProps) {
  const specs: Specs<LayerSet> = {
    ...(layer === undefined && {
      tag: { label: "Tag", required: true, hint: "All devices with this tag have its settings." } as const,
    }),
    document: {
      label: "Settings",
      kind: "json",
      initial: layer?.document ?? {},
      required: true,
      hint: `A JSON object, such as ${toJson({ interval_s: 30 })}; null takes a setting of lower layers away.`,
    },
    priority: {
      label: "Priority",
      kind: "number",
      initial: layer?.priority ?? 0,
      hint: "Where several layers have a setting, the highest takes precedence.",
    },
  };
  return (
    <OperationForm<LayerSet>
      specs={specs}
      verb={layer ? `Save for ${plural(tagged(layer.tag), "device")}` : "Add"}
      run={async (asked) => {
        const tag = layer?.tag ?? asked.tag;
        done(effect(tag, (await ask(LAYER_SET, { ...asked, tag, replace: true })).devices.length));
        close();
        return undefined;
      }}
    />
  );
}

function tagged(tag: string): number {
  return fleet.value.devices.filter(({ tags }) => tags.includes(tag)).length;
}

function effect(tag: string, count: number): string {
  return count === 0
    ? `Saved. No device with the tag ${tag} has another configuration by it.`
    : `Saved. ${plural(count, "device")} with the tag ${tag} get a new version.`;
}
