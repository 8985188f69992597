import { useSignal, type Signal } from "@preact/signals";
import { useEffect, useRef, useState } from "preact/hooks";

import { listen } from "../flash/console.ts";
import { explained } from "../flash/errors.ts";

const BAUD_RATE = 115_200;
const KEPT_CHARACTERS = 50_000;

export interface SerialConsole {
  readonly text: Signal<string>;
  readonly isOpen: boolean;
  readonly print: (text: string) => void;
  /** Restarts the chip at a port and shows its output, until `stop` or until it is unplugged. */
  readonly start: (port: SerialPort) => void;
  /** Resolves when the port is closed. */
  readonly stop: () => Promise<void>;
}

/** The output at a serial port, which is closed when the component is unmounted. */
export function useSerialConsole(): SerialConsole {
  const text = useSignal("");
  const [isOpen, setOpen] = useState(false);
  const running = useRef<{ readonly abort: () => void; readonly ended: Promise<void> }>(undefined);
  const isGone = useRef(false);
  const print = (more: string) => {
    text.value = (text.peek() + more.replace(/\r\n?/g, "\n")).slice(-KEPT_CHARACTERS);
  };
  const start = (port: SerialPort) => {
    const controller = new AbortController();
    if (isGone.current) {
      controller.abort(); // still restart the chip
    }
    const ended = listen(port, BAUD_RATE, print, controller.signal)
      .catch((error: unknown) => print(`[${explained(error).message}]\n`))
      .finally(() => setOpen(false));
    running.current = { abort: () => controller.abort(), ended };
    setOpen(true);
  };
  const stop = async () => {
    running.current?.abort();
    await running.current?.ended;
  };
  useEffect(
    () => () => {
      isGone.current = true;
      void stop();
    },
    [],
  );
  return { text, isOpen, print, start, stop };
}
