import { useState } from "preact/hooks";

import { Answered, Dialog, Notice } from "../components/basics.tsx";
import { Outcome, SelectField, TextField } from "../components/fields.tsx";
import { href } from "../lib/router.ts";
import { plural, words } from "../lib/text.ts";
import {
  IMAGE_LIST,
  ROLLOUT_PREFLIGHT,
  ROLLOUT_START,
  type ImageView,
  type RolloutFindings,
  type RolloutStart,
} from "../protocol.ts";
import { useAction } from "../state/action.ts";
import { useQuery } from "../state/query.ts";
import { ask } from "../state/session.ts";
import { Findings } from "./firmware/Release.tsx";

interface Props {
  readonly close: () => void;
  readonly started: (rollout: number) => void;
}

export function StartRollout({ close, started }: Props) {
  const images = useQuery("images", () => ask(IMAGE_LIST, {}));
  return (
    <Dialog title="Start rollout" close={close}>
      <Answered query={images}>
        {({ images: found }) =>
          found.length === 0 ? (
            <Notice tone="warn">
              No images yet. <a href={href("firmware")}>Upload one</a> first.
            </Notice>
          ) : (
            <Form images={found} started={started} />
          )
        }
      </Answered>
    </Dialog>
  );
}

/** Limits of a rollout that have a default; the first is its share of the devices. */
const MORE = [
  ["percent", "Share of the devices in percent", "100 by default."],
  ["success_percent", "Success in percent", "A wave is met when so many have confirmed; 95 by default."],
  ["silence_s", "Silence in seconds", "A device that is silent for so long has failed; 1800 by default."],
  ["max_under_way", "Devices at once", "Devices that load it at once; 50 by default."],
  ["offers_per_minute", "Offers per minute", "60 by default."],
] as const;

/** Runs a preflight first; a change of the form requires another one. */
function Form({ images, started }: { images: readonly ImageView[]; started: (rollout: number) => void }) {
  const [checked, setChecked] = useState<{ readonly wanted: RolloutStart; readonly findings: RolloutFindings }>();
  const action = useAction();
  const onSubmit = (event: SubmitEvent) => {
    event.preventDefault();
    const wanted = wantedOf(new FormData(event.currentTarget as HTMLFormElement), images);
    void action.run(async () => {
      if (checked === undefined) {
        const { model, version, tags = [], percent } = wanted;
        setChecked({
          wanted,
          findings: await ask(ROLLOUT_PREFLIGHT, { model, version, tags, ...(percent && { percent }) }),
        });
      } else {
        const skip = checked.findings.count > 0;
        started((await ask(ROLLOUT_START, { ...checked.wanted, skip })).rollout);
      }
      return undefined;
    });
  };
  return (
    <form onSubmit={onSubmit} onInput={() => setChecked(undefined)}>
      <SelectField
        label="Image"
        name="image"
        options={images.map(({ sha256, model, version }) => [sha256, `${model} ${version}`])}
      />
      <TextField
        label="Only devices with all of these tags"
        name="tags"
        hint="Separated by spaces; empty for all devices."
      />
      <TextField
        label="Waves"
        name="waves"
        defaultValue="1 10% 50% 100%"
        required
        hint="Devices reached with each wave."
      />
      <TextField
        label="Failure limit"
        name="failure_limit"
        defaultValue="5%"
        required
        hint="Maximum failures in a wave, as a count or percentage."
      />
      <TextField label="Soak time in seconds" name="soak_s" type="number" min={0} defaultValue="900" required />
      <details>
        <summary>More limits</summary>
        <div class="editor grid">
          {MORE.map(([name, label, hint]) => (
            <TextField key={name} label={label} name={name} hint={hint} inputMode="numeric" />
          ))}
          <TextField label="Window" name="window" placeholder="22:00-05:00" hint="Offers are made in it only." />
          <TextField label="Time zone of the window" name="zone" placeholder="UTC" />
        </div>
      </details>
      {checked && (
        <>
          <Findings findings={checked.findings} />
          <small>
            In waves of {checked.findings.waves.join(", ")}. Devices that would not take it are left out.
          </small>
        </>
      )}
      <Outcome action={action} />
      <footer>
        <button type="submit" class="primary" disabled={action.busy || checked?.findings.fit === 0}>
          {checked ? `Start for ${plural(checked.findings.fit, "device")}` : "Run preflight"}
        </button>
      </footer>
    </form>
  );
}

function wantedOf(form: FormData, images: readonly ImageView[]): RolloutStart {
  const image = images.find(({ sha256 }) => sha256 === text(form, "image"));
  return {
    model: image?.model ?? "",
    version: image?.version ?? "",
    tags: words(text(form, "tags")),
    plan: {
      waves: words(text(form, "waves")),
      failure_limit: text(form, "failure_limit"),
      soak_s: Number(text(form, "soak_s")),
      ...given(form, "window", String),
      ...given(form, "zone", String),
      ...given(form, "success_percent", Number),
      ...given(form, "silence_s", Number),
      ...given(form, "max_under_way", Number),
      ...given(form, "offers_per_minute", Number),
    },
    ...given(form, "percent", Number),
  };
}

/** The field with its value, unless it is empty. */
function given<T>(form: FormData, name: string, parse: (value: string) => T): Record<string, T> {
  const value = text(form, name);
  return value === "" ? {} : { [name]: parse(value) };
}

function text(form: FormData, name: string): string {
  const value = form.get(name);
  return typeof value === "string" ? value.trim() : "";
}
