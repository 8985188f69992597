import { DialogButton, OperationForm } from "../../components/form.tsx";
import { facetsOf, toggled } from "../../lib/facets.ts";
import { terms } from "../../lib/search.ts";
import { DEVICE_LIST, type DeviceView } from "../../protocol.ts";
import { forgetView, saveView, savedViews } from "../../state/views.ts";

interface Props {
  /** Those that the text finds. */
  readonly devices: readonly DeviceView[];
  readonly text: string;
  readonly change: (text: string) => void;
}

/** Search terms as chips, and searches that were saved under a name. */
export function Filters({ devices, text, change }: Props) {
  const used = terms(text);
  const here = savedViews.value.find((view) => view.text === text);
  return (
    <div class="chips" role="group" aria-label="Filters">
      {savedViews.value.map((view) => (
        <button
          key={view.name}
          type="button"
          class="chip saved"
          aria-pressed={view === here}
          onClick={() => change(view === here ? "" : view.text)}
        >
          {view.name}
        </button>
      ))}
      {facetsOf(devices, text).map(({ term, count }) => (
        <button
          key={term}
          type="button"
          class="chip"
          aria-pressed={used.includes(term)}
          onClick={() => change(toggled(text, term))}
        >
          {term.replace(":", " ").replaceAll("_", " ")} <small>{count.toLocaleString()}</small>
        </button>
      ))}
      {here ? (
        <button type="button" class="plain" onClick={() => forgetView(here.name)}>
          Forget this view
        </button>
      ) : (
        used.length > 0 && (
          <DialogButton label="Save this view" title="Save view" needs={DEVICE_LIST}>
            {(close) => (
              <OperationForm<{ name: string }>
                specs={{ name: { label: "Name", required: true, maxLength: 40, hint: `Of: ${text}` } }}
                verb="Save"
                run={({ name }) => {
                  saveView({ name, text });
                  close();
                  return Promise.resolve(undefined);
                }}
              />
            )}
          </DialogButton>
        )
      )}
    </div>
  );
}
