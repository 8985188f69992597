import { Ago, Answered, Badge, Empty, Facts, Loading, Table } from "../../components/basics.tsx";
import { Button } from "../../components/Button.tsx";
import { Outcome } from "../../components/fields.tsx";
import { ConfirmButton, DialogButton } from "../../components/form.tsx";
import { imageName, fetchImage, save } from "../../flash/files.ts";
import { href } from "../../lib/router.ts";
import { plural } from "../../lib/text.ts";
import {
  IMAGE_DELETE,
  IMAGE_LIST,
  IMAGE_PIN,
  IMAGE_READ,
  IMAGE_RELEASE,
  IMAGE_SHOW,
  IMAGE_UNPIN,
  IMAGE_WITHDRAW,
  UPLOAD_BEGIN,
  type ImageView,
} from "../../protocol.ts";
import { useAction } from "../../state/action.ts";
import { useQuery } from "../../state/query.ts";
import { ask } from "../../state/session.ts";
import { Keys } from "./Keys.tsx";
import { Release } from "./Release.tsx";
import { Upload } from "./Upload.tsx";
import { VitalsByVersion } from "./VitalsByVersion.tsx";

/** The stored images, which of them is its model's, and the keys that images must be signed with. */
export function FirmwarePage() {
  const images = useQuery(
    "images",
    () => ask(IMAGE_LIST, {}),
    ({ noun }) => noun === "firmware",
  );
  return (
    <>
      <div class="title">
        <h1>Firmware</h1>
        <a class="button" href={href("rollouts")}>
          Rollouts
        </a>
        <DialogButton label="Upload image" title="Upload image" tone="primary" needs={UPLOAD_BEGIN}>
          {(close) => <Upload close={close} stored={images.refresh} />}
        </DialogButton>
      </div>
      <Answered query={images}>
        {({ images: found }) =>
          found.length === 0 ? (
            <Empty>No images yet. Upload the app that your project builds, such as build/thermometer.bin.</Empty>
          ) : (
            <Table label="Images" head={["Image", "Project", "Chip", "Size", "Uploaded", "State", "Actions"]}>
              {found.map((image) => (
                <Row key={`${image.model} ${image.version}`} image={image} refresh={images.refresh} />
              ))}
            </Table>
          )
        }
      </Answered>
      <VitalsByVersion />
      <Keys />
    </>
  );
}

function Row({ image, refresh }: { image: ImageView; refresh: () => void }) {
  const {
    model,
    version,
    project,
    chip,
    size_bytes: size,
    uploaded_at: at,
    current,
    pinned,
    signed_by: key,
  } = image;
  const name = `${model} ${version}`;
  const which = { model, version };
  const labelled = (verb: string) => (
    <>
      {verb}
      <span class="unseen"> {name}</span>
    </>
  );
  const then = (work: () => Promise<unknown>) => async () => {
    await work();
    refresh();
    return undefined;
  };
  return (
    <tr>
      <th scope="row">{name}</th>
      <td>{project}</td>
      <td>{chip}</td>
      <td>{Math.ceil(size / 1024).toLocaleString()} KiB</td>
      <td>
        <Ago at={at} />
      </td>
      <td>
        {current && <Badge tone="good">released</Badge>} {pinned && <Badge tone="busy">kept</Badge>}{" "}
        {key && <Badge tone="calm">signed</Badge>}
      </td>
      <td class="actions">
        <DialogButton label={labelled("Details")} title={name} needs={IMAGE_SHOW}>
          {() => <Details image={image} />}
        </DialogButton>
        {current ? (
          <ConfirmButton
            label={labelled("Withdraw")}
            title={`Withdraw ${name}?`}
            verb="Withdraw"
            tone="danger"
            needs={IMAGE_WITHDRAW}
            run={then(() => ask(IMAGE_WITHDRAW, { model }))}
          >
            No device of {model} is offered an image any more, until another one is released. Devices keep what
            they run, and the image stays stored.
          </ConfirmButton>
        ) : (
          <DialogButton label={labelled("Release")} title={`Release ${name}?`} needs={IMAGE_RELEASE}>
            {(close) => (
              <Release
                image={image}
                done={() => {
                  refresh();
                  close();
                }}
              />
            )}
          </DialogButton>
        )}
        <ConfirmButton
          label={labelled(pinned ? "Unkeep" : "Keep")}
          title={pinned ? `No longer keep ${name}?` : `Keep ${name}?`}
          verb={pinned ? "No longer keep it" : "Keep it"}
          needs={IMAGE_PIN}
          run={then(() => ask(pinned ? IMAGE_UNPIN : IMAGE_PIN, which))}
        >
          {pinned
            ? "It may be deleted when newer images need its place."
            : "It is never deleted to make place for newer images."}
        </ConfirmButton>
        <ConfirmButton
          label={labelled("Delete")}
          title={`Delete ${name}?`}
          verb="Delete permanently"
          tone="danger"
          needs={IMAGE_DELETE}
          run={then(() => ask(IMAGE_DELETE, which))}
        >
          The stored file is deleted. Devices that run it keep running it; a device that is loading it would start
          anew with another one.
        </ConfirmButton>
      </td>
    </tr>
  );
}

function Details({ image }: { image: ImageView }) {
  const { model, version } = image;
  const query = useQuery(`image ${model} ${version}`, () => ask(IMAGE_SHOW, { model, version }));
  const { data } = query;
  if (data === undefined) {
    return query.error ? <Answered query={query}>{() => null}</Answered> : <Loading />;
  }
  return (
    <div class="grid">
      <Facts
        facts={[
          ["Embedded version", data.embedded_version ?? "none"],
          ["ESP-IDF", data.idf_version || "–"],
          ["Security version", data.secure_version],
          ["Chip revisions", revisions(data)],
          ["Secure Boot signatures", data.secure_boot_signatures],
          ["Signed by key", data.signed_by ?? "not signed"],
          ["Uploaded by", data.uploaded_by],
          ["Run by", plural(data.running, "device")],
          ["Being delivered to", plural(data.delivering, "device")],
          ["SHA-256", <code>{data.sha256}</code>],
        ]}
      />
      <footer>
        <DownloadButton image={image} />
      </footer>
    </div>
  );
}

function DownloadButton({ image }: { image: ImageView }) {
  const action = useAction();
  const download = () =>
    action.run(async () => {
      save(imageName(image), await fetchImage(image, () => undefined));
      return undefined;
    });
  return (
    <>
      <Outcome action={action} />
      <Button needs={IMAGE_READ} disabled={action.busy} onClick={download}>
        Download
      </Button>
    </>
  );
}

function revisions({ min_chip_revision: min, max_chip_revision: max }: ImageView): string {
  const text = (revision: number) => `v${Math.floor(revision / 100)}.${revision % 100}`;
  return max === null ? `${text(min)} and later` : `${text(min)} to ${text(max)}`;
}
