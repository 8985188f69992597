const RESET_MS = 100;

/** Resets the chip at a port and prints its output, until `signal` or until it is unplugged. */
export async function listen(
  port: SerialPort,
  baudRate: number,
  print: (text: string) => void,
  signal: AbortSignal,
): Promise<void> {
  await port.open({ baudRate });
  try {
    const listening = readAll(port, print, signal);
    await restart(port);
    await listening;
  } finally {
    await port.close();
  }
}

/** Pulls EN low and high again, with IO0 high, so that the chip starts its application. */
export async function restart(port: SerialPort): Promise<void> {
  await port.setSignals({ dataTerminalReady: false, requestToSend: true });
  await new Promise((resolve) => setTimeout(resolve, RESET_MS));
  await port.setSignals({ dataTerminalReady: false, requestToSend: false });
}

/** A port has a new stream after noise on the line, and none when it is lost. */
async function readAll(port: SerialPort, print: (text: string) => void, signal: AbortSignal): Promise<void> {
  const decoder = new TextDecoder();
  while (port.readable !== null && !signal.aborted) {
    const reader = port.readable.getReader();
    const stop = () => void reader.cancel();
    signal.addEventListener("abort", stop);
    try {
      for (;;) {
        const { value, done } = await reader.read();
        if (done) {
          return;
        }
        print(decoder.decode(value, { stream: true }));
      }
    } catch (error) {
      print(`[${error instanceof Error ? error.message : String(error)}]\n`);
    } finally {
      signal.removeEventListener("abort", stop);
      reader.releaseLock();
    }
  }
}
