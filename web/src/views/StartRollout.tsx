import { useState } from "preact/hooks";

import { Answered, Dialog, Notice } from "../components/basics.tsx";
import { Outcome, SelectField, TextField } from "../components/fields.tsx";
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
              No images yet. Upload one with <code>mdm firmware upload FILE --model CODE --no-release</code>.
            </Notice>
          ) : (
            <Form images={found} started={started} />
          )
        }
      </Answered>
    </Dialog>
  );
}

/** Runs a preflight first; a change of the form requires another one. */
function Form({ images, started }: { images: readonly ImageView[]; started: (rollout: number) => void }) {
  const [checked, setChecked] = useState<{ readonly wanted: RolloutStart; readonly findings: RolloutFindings }>();
  const action = useAction();
  const onSubmit = (event: SubmitEvent) => {
    event.preventDefault();
    const wanted = wantedOf(new FormData(event.currentTarget as HTMLFormElement), images);
    void action.run(async () => {
      if (checked === undefined) {
        const { model, version, tags = [] } = wanted;
        setChecked({ wanted, findings: await ask(ROLLOUT_PREFLIGHT, { model, version, tags }) });
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
      {checked && <Findings findings={checked.findings} />}
      <Outcome action={action} />
      <footer>
        <button type="submit" class="primary" disabled={action.busy || checked?.findings.fit === 0}>
          {checked ? `Start for ${plural(checked.findings.fit, "device")}` : "Run preflight"}
        </button>
      </footer>
    </form>
  );
}

function Findings({ findings }: { findings: RolloutFindings }) {
  const { fit, already, count, never_seen: unseen, problems, waves } = findings;
  return (
    <Notice tone={fit === 0 || count > 0 ? "warn" : "good"}>
      <p>
        {plural(fit, "device")} would accept the image, in waves of {waves.join(", ")}; {already.count} already run
        it.
      </p>
      {unseen > 0 && <p>{plural(unseen, "device")} never seen and left out.</p>}
      {count > 0 && (
        <>
          <p>{plural(count, "device")} would fail and will be skipped:</p>
          <ul>
            {problems.slice(0, 5).map((problem) => (
              <li key={problem.client_id}>
                {problem.client_id}: {problem.reason}
              </li>
            ))}
          </ul>
        </>
      )}
    </Notice>
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
    },
  };
}

function text(form: FormData, name: string): string {
  const value = form.get(name);
  return typeof value === "string" ? value.trim() : "";
}
