const RULES: readonly (readonly [RegExp, string])[] = [
  [/^NotFoundError: /, "No port was chosen."],
  [
    /^(NetworkError|InvalidStateError): .*open/i,
    "The port cannot be opened: another program, or another tab, may have it open.",
  ],
  [
    /^NetworkError: |device has been lost/i,
    "The connection to the board was lost. Plug it in again and start anew.",
  ],
  [
    /Failed to connect with the device/,
    "The chip does not answer. Check the cable, hold the board's BOOT button while you press RESET, and try again.",
  ],
  [
    /Serial data stream stopped|No serial data received|serial noise/,
    "The chip stopped answering. Check the cable, or try a lower speed, and start anew.",
  ],
  [/MD5 of file does not match/, "What is in flash is not what was sent. Try a lower speed, and start anew."],
];

/** Why a chip could not be reached or flashed, as people say it, and what they can do. */
export function explained(error: unknown): Error {
  const { name, message } = error instanceof Error ? error : { name: "", message: String(error) };
  const rule = RULES.find(([pattern]) => pattern.test(`${name}: ${message}`));
  return new Error(rule?.[1] ?? message, { cause: error });
}
