import type { ComponentChildren } from "preact";
import { useEffect, useRef, useState } from "preact/hooks";

import { Panel } from "../../components/basics.tsx";
import { Button } from "../../components/Button.tsx";
import { Outcome } from "../../components/fields.tsx";
import { explained } from "../../flash/errors.ts";
import { fetchImage, fetchNvs } from "../../flash/files.ts";
import { appParts, nvsPlace, wholeOf, type Part } from "../../flash/partitions.ts";
import { FROM_FILE, isRight, numberOf, nvsOf, wholeFile, type Plan } from "../../flash/plan.ts";
import { DEVICE_NVS, DEVICE_SHOW, IMAGE_READ, type ImageView } from "../../protocol.ts";
import { useAction } from "../../state/action.ts";
import { useSerialConsole, type SerialConsole } from "../../state/console.ts";

interface Props {
  readonly device: string;
  readonly plan: Plan;
  readonly image: ImageView | undefined;
  readonly fields: ComponentChildren;
}

interface Step {
  readonly name: string;
  /** The completed share, 0 to 1, if it is known. */
  readonly share?: number;
}

/** Flashes a chip at a serial port of this computer and shows its output. */
export function Flash({ device, plan, image, fields }: Props) {
  const action = useAction();
  const serial = useSerialConsole();
  const [step, setStep] = useState<Step>();
  const withPort = (work: (port: SerialPort) => Promise<string | undefined>) =>
    action.run(async () => {
      try {
        await serial.stop();
        const port = await navigator.serial.requestPort();
        if (port.readable !== null) {
          throw new Error("The port is still in use by this page. Wait until the operation has ended.");
        }
        return await work(port);
      } catch (error) {
        throw explained(error);
      } finally {
        setStep(undefined);
      }
    });
  const onSubmit = (event: SubmitEvent) => {
    event.preventDefault();
    void withPort(async (port) => {
      const done = await flash(port, device, plan, image, serial.print, setStep);
      serial.start(port);
      return done;
    });
  };
  const openConsole = () =>
    withPort((port) => {
      serial.start(port);
      return Promise.resolve(undefined);
    });
  return (
    <Panel title="Flash over USB">
      <p>
        Connect the board. An image needs the bootloader and the partition table of your project in its flash; the
        whole flash from a file needs nothing. Chip type, partition table and the written data are verified.
      </p>
      <form onSubmit={onSubmit}>
        {fields}
        {step && <Progress step={step} />}
        <Outcome action={action} />
        <footer>
          <button type="button" disabled={action.busy || serial.isOpen} onClick={openConsole}>
            Restart and open console
          </button>
          <Button
            needs={nvsOf(plan, device) ? DEVICE_NVS : image ? IMAGE_READ : DEVICE_SHOW}
            type="submit"
            class="primary"
            disabled={action.busy || !isRight(plan)}
          >
            {action.busy ? "Flashing…" : "Select port and flash"}
          </Button>
        </footer>
      </form>
      <Console serial={serial} />
    </Panel>
  );
}

/** Flashes the plan, unless chip type or partition table do not match; returns a message about it. */
async function flash(
  port: SerialPort,
  device: string,
  plan: Plan,
  image: ImageView | undefined,
  print: (text: string) => void,
  report: (step: Step) => void,
): Promise<string> {
  if (plan.image !== "" && plan.image !== FROM_FILE && image === undefined) {
    throw new Error("The image was deleted in the meantime. Select another one.");
  }
  const file = wholeFile(plan);
  const whole = file && wholeOf(new Uint8Array(await file.arrayBuffer()));
  const application =
    whole?.application ??
    (image && (await fetchImage(image, (share) => report({ name: "Reading the image", share }))));
  report({ name: "Connecting to the chip" });
  const { Chip } = await import("../../flash/chip.ts");
  const chip = await Chip.connect(port, numberOf(plan.baudRate), print);
  try {
    if (application) {
      chip.mustBeFor(application, image?.chip ?? "another chip");
    }
    await chip.prepare();
    const table = whole?.table ?? (await chip.readTable());
    const parts: Part[] = whole
      ? [...whole.parts]
      : application
        ? appParts(table, numberOf(plan.appAddress), application)
        : [];
    const nvs = nvsOf(plan, device);
    if (nvs) {
      const wanted = { address: numberOf(plan.nvsAddress), sizeBytes: numberOf(plan.nvsSize) };
      const place = nvsPlace(table, whole ? undefined : wanted);
      // Requested last, so that a secret is provided only for a matching chip.
      parts.push({ address: place.address, data: await fetchNvs({ ...nvs, size_bytes: place.sizeBytes }) });
    }
    await chip.write(parts, (share) => report({ name: "Writing", share }));
  } catch (error) {
    await chip.abandon();
    throw error;
  }
  await chip.close();
  return `The ${chip.name} was flashed and verified. It is restarting; its output is shown below.`;
}

function Progress({ step: { name, share } }: { step: Step }) {
  const percent = share === undefined ? "" : ` ${Math.floor(share * 100)} %`;
  return (
    <div class="progress">
      <progress aria-label={name} value={share} />
      <span role="status">
        {name}…{percent}
      </span>
    </div>
  );
}

function Console({ serial }: { serial: SerialConsole }) {
  const area = useRef<HTMLTextAreaElement>(null);
  const text = serial.text.value;
  useEffect(() => area.current?.scrollTo(0, area.current.scrollHeight), [text]);
  return (
    text !== "" && (
      <>
        <textarea ref={area} class="console" aria-label="Serial console" readOnly rows={12} value={text} />
        {serial.isOpen && (
          <footer>
            <button type="button" onClick={() => void serial.stop()}>
              Close port
            </button>
          </footer>
        )}
      </>
    )
  );
}
