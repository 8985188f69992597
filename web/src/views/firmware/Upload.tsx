import { useState } from "preact/hooks";

import { Answered, Notice } from "../../components/basics.tsx";
import { Outcome, SelectField, TextField } from "../../components/fields.tsx";
import { uploadImage } from "../../flash/upload.ts";
import { href } from "../../lib/router.ts";
import type { ImageView, Models } from "../../protocol.ts";
import { useAction } from "../../state/action.ts";
import { modelOptions, useModels } from "../../state/models.ts";
import { Release } from "./Release.tsx";

interface Props {
  readonly close: () => void;
  readonly stored: () => void;
}

/** Uploads an image; then it may be released. */
export function Upload({ close, stored }: Props) {
  const models = useModels();
  const [image, setImage] = useState<ImageView>();
  if (image !== undefined) {
    return (
      <div class="grid">
        <Notice tone="good">
          {image.model} {image.version} is stored, and not released yet: no device is offered it.
        </Notice>
        <Release
          image={image}
          done={() => {
            stored();
            close();
          }}
        />
        <footer>
          <button type="button" onClick={close}>
            Not now
          </button>
        </footer>
      </div>
    );
  }
  return (
    <Answered query={models}>
      {(found) =>
        found.models.length === 0 ? (
          <Notice tone="warn">
            No models yet. <a href={href("models")}>Add one</a>, then upload its image.
          </Notice>
        ) : (
          <Form
            models={found}
            stored={(it) => {
              stored();
              setImage(it);
            }}
          />
        )
      }
    </Answered>
  );
}

function Form({ models, stored }: { models: Models; stored: (image: ImageView) => void }) {
  const [share, setShare] = useState<number>();
  const action = useAction();
  const onSubmit = (event: SubmitEvent) => {
    event.preventDefault();
    const form = new FormData(event.currentTarget as HTMLFormElement);
    const [model, version, file] = [form.get("model"), form.get("version"), form.get("file")];
    void action.run(async () => {
      if (!(file instanceof File) || file.size === 0) {
        throw new Error("Select the file of the image; an empty file is none.");
      }
      try {
        const data = new Uint8Array(await file.arrayBuffer());
        const label = (version as string).trim() || undefined;
        stored(await uploadImage({ model: model as string, version: label, data, progress: setShare }));
      } finally {
        setShare(undefined);
      }
      return undefined;
    });
  };
  return (
    <form onSubmit={onSubmit} onInput={action.reset}>
      <SelectField label="Model" name="model" options={modelOptions(models)} />
      <TextField
        label="File"
        name="file"
        type="file"
        accept=".bin"
        required
        hint="The app that your project builds."
      />
      <TextField label="Version" name="version" hint="Its label; the version in the image if empty." />
      {share !== undefined && (
        <div class="progress">
          <progress aria-label="Uploading" value={share} />
          <span role="status">Uploading… {Math.floor(share * 100)} %</span>
        </div>
      )}
      <Outcome action={action} />
      <footer>
        <button type="submit" class="primary" disabled={action.busy}>
          {action.busy ? "Uploading…" : "Upload"}
        </button>
      </footer>
    </form>
  );
}
