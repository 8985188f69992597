import type { ComponentChildren } from "preact";
import { useEffect, useRef, useState } from "preact/hooks";

import { Panel } from "../../components/basics.tsx";
import { Outcome } from "../../components/fields.tsx";
import { explained } from "../../flash/errors.ts";
import { fetchImage, fetchNvs } from "../../flash/files.ts";
import { appParts, mustHaveNvs, type Part } from "../../flash/partitions.ts";
import { isRight, numberOf, nvsOf, type Plan } from "../../flash/plan.ts";
import type { ImageView } from "../../protocol.ts";
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
  /** How much of it is done, 0 to 1, where that is known. */
  readonly share?: number;
}

/** Flashes a chip at a serial port of this computer, and shows what it prints. */
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
          throw new Error("The port is still in use by this page: wait until that has ended.");
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
        Connect the board. Its flash must have the bootloader and the partition table of your project already. The
        chip, its partition table and what was written are checked.
      </p>
      <form onSubmit={onSubmit}>
        {fields}
        {step && <Progress step={step} />}
        <Outcome action={action} />
        <footer>
          <button type="button" disabled={action.busy || serial.isOpen} onClick={openConsole}>
            Restart and listen
          </button>
          <button type="submit" class="primary" disabled={action.busy || !isRight(plan)}>
            {action.busy ? "Flashing…" : "Choose port and flash"}
          </button>
        </footer>
      </form>
      <Console serial={serial} />
    </Panel>
  );
}

/** Writes what the plan says, unless the chip or its partition table is another one; returns what was done. */
async function flash(
  port: SerialPort,
  device: string,
  plan: Plan,
  image: ImageView | undefined,
  print: (text: string) => void,
  tell: (step: Step) => void,
): Promise<string> {
  if (plan.image !== "" && image === undefined) {
    throw new Error("The image has been deleted meanwhile: choose another one.");
  }
  const application = image && (await fetchImage(image, (share) => tell({ name: "Reading the image", share })));
  tell({ name: "Connecting to the chip" });
  const { Chip } = await import("../../flash/chip.ts");
  const chip = await Chip.connect(port, numberOf(plan.baudRate), print);
  try {
    if (image && application) {
      chip.mustBeFor(application, image.chip);
    }
    const table = await chip.prepare();
    const parts: Part[] = application ? appParts(table, numberOf(plan.appAddress), application) : [];
    const nvs = nvsOf(plan, device);
    if (nvs) {
      const address = numberOf(plan.nvsAddress);
      mustHaveNvs(table, address, numberOf(plan.nvsSize));
      // Asked for last: a secret is handed out only for a chip that can take it.
      parts.push({ address, data: await fetchNvs(nvs) });
    }
    await chip.write(parts, (share) => tell({ name: "Writing", share }));
  } catch (error) {
    await chip.abandon();
    throw error;
  }
  await chip.close();
  return `The ${chip.name} is flashed and checked. It starts now: what it says shows below.`;
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
              Leave the port
            </button>
          </footer>
        )}
      </>
    )
  );
}
