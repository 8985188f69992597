import { useEffect, useRef, useState } from "preact/hooks";

import { Answered, Dialog } from "../../components/basics.tsx";
import { Button } from "../../components/Button.tsx";
import { Outcome } from "../../components/fields.tsx";
import { changeOf, fieldIn, textsOf, type Wifi } from "../../lib/connectionForm.ts";
import { effectDone, targetText } from "../../lib/connections.ts";
import {
  CONNECTION_HISTORY,
  CONNECTION_REMOVE,
  CONNECTION_SET,
  CONNECTION_SHOW,
  type ConnectionEffect,
  type ConnectionLayerView,
  type ConnectionSet,
  type ConnectionTarget,
  type ConnectionView,
} from "../../protocol.ts";
import { RefusedError } from "../../mqtt/asker.ts";
import { useAction } from "../../state/action.ts";
import { useQuery } from "../../state/query.ts";
import { ask } from "../../state/session.ts";
import { ConfirmConnection, Expected } from "./ConfirmConnection.tsx";
import { ConnectionFields } from "./ConnectionFields.tsx";
import { WifiFields } from "./WifiFields.tsx";

interface Props {
  readonly target: ConnectionTarget;
  readonly close: () => void;
  readonly saved: (done: string) => void;
}

/** Changes or removes the layer of all devices, of a tag, or of one device. */
export function ChangeConnection({ target, close, saved }: Props) {
  const [removing, setRemoving] = useState(false);
  const who = targetText(target);
  const query = useQuery(`change connection of ${who}`, async () => {
    const view = await ask(CONNECTION_SHOW, target);
    return { view, layer: await layerOf(target, view.client_id) };
  });
  return removing ? (
    <ConfirmConnection
      title={`Remove the layer of ${who}?`}
      verb="Remove layer"
      change={(isDry) => ask(CONNECTION_REMOVE, { ...target, dry_run: isDry })}
      close={close}
      saved={saved}
    />
  ) : (
    <Dialog title={`Profile of ${who}`} close={close}>
      <Answered query={query}>
        {({ view, layer }) => (
          <Form
            target={target}
            view={view}
            layer={layer}
            saved={(done) => {
              saved(done);
              close();
            }}
            remove={() => setRemoving(true)}
          />
        )}
      </Answered>
    </Dialog>
  );
}

/** The layer in force of exactly these devices, if there is one. */
async function layerOf(
  { tag, device }: ConnectionTarget,
  clientId: string | null,
): Promise<ConnectionLayerView | undefined> {
  const scope = tag ? "tag" : device ? "device" : "all";
  let before: number | null | undefined;
  while (before !== null) {
    const page: { layers: ConnectionLayerView[]; next: number | null } = await ask(CONNECTION_HISTORY, {
      ...(before && { before }),
    });
    const newest = page.layers.find(
      (layer) => layer.scope === scope && layer.tag === (tag ?? null) && (!device || layer.client_id === clientId),
    );
    if (newest) {
      return newest.removed ? undefined : newest;
    }
    before = page.next;
  }
  return undefined;
}

interface FormProps {
  readonly target: ConnectionTarget;
  readonly view: ConnectionView;
  readonly layer: ConnectionLayerView | undefined;
  readonly saved: (done: string) => void;
  readonly remove: () => void;
}

/** Shows the effect first; a change of the form requires another look. */
function Form({ target, view, layer: current, saved, remove }: FormProps) {
  const [layer] = useState(current); // what the input is compared with, also when the query is answered again
  const [texts, setTexts] = useState(() => textsOf(layer));
  const [wifi, setWifi] = useState<Wifi>(layer?.document.wifi === undefined ? "below" : "kept");
  const [checked, setChecked] = useState<{ readonly wanted: ConnectionSet; readonly effect: ConnectionEffect }>();
  const [refusal, setRefusal] = useState<{ readonly field: string; readonly message: string }>();
  const form = useRef<HTMLFormElement>(null);
  const action = useAction();
  useEffect(() => {
    form.current?.querySelector<HTMLElement>('[aria-invalid="true"]')?.focus();
  }, [refusal]);
  const onSubmit = (event: SubmitEvent) => {
    event.preventDefault();
    setRefusal(undefined);
    void action.run(async () => {
      if (checked) {
        saved(effectDone(await ask(CONNECTION_SET, checked.wanted)));
        return undefined;
      }
      const change = changeOf(layer, texts, wifi);
      if (change === undefined) {
        return "Nothing was changed.";
      }
      const wanted = { ...target, ...change };
      try {
        setChecked({ wanted, effect: await ask(CONNECTION_SET, { ...wanted, dry_run: true }) });
      } catch (error) {
        const field = error instanceof RefusedError ? fieldIn(error.message) : undefined;
        if (field === undefined) {
          throw error;
        }
        setRefusal({ field, message: error instanceof Error ? error.message : "" });
      }
      return undefined;
    });
  };
  const edited = () => {
    setChecked(undefined);
    action.reset();
  };
  const errorOf = (name: string) => (refusal?.field === name ? refusal.message : undefined);
  return (
    <form ref={form} onSubmit={onSubmit}>
      <p>Empty fields are as the layers below say. Devices keep a new profile only if they connect with it.</p>
      <ConnectionFields
        view={view}
        layer={layer}
        hasPriority={Boolean(target.tag)}
        texts={texts}
        errorOf={errorOf}
        change={(part) => {
          setTexts((all) => ({ ...all, ...part }));
          edited();
        }}
      />
      <WifiFields
        view={view}
        layer={layer}
        wifi={wifi}
        error={errorOf("wifi")}
        change={(found) => {
          setWifi(found);
          edited();
        }}
      />
      {checked && <Expected effect={checked.effect} />}
      <Outcome action={action} />
      <footer>
        {layer && (
          <Button needs={CONNECTION_REMOVE} class="danger" onClick={remove}>
            Remove layer
          </Button>
        )}
        <button type="submit" class="primary" disabled={action.busy}>
          {action.busy ? "Please wait…" : checked ? "Save" : "Show what it does"}
        </button>
      </footer>
    </form>
  );
}
