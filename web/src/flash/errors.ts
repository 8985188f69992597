const RULES: readonly (readonly [RegExp, string])[] = [
  [/^NotFoundError: /, "No port was selected."],
  [
    /^(NetworkError|InvalidStateError): .*open/i,
    "The port cannot be opened. Another program or tab may have it open.",
  ],
  [/^NetworkError: |device has been lost/i, "The connection to the board was lost. Reconnect it and retry."],
  [
    /Failed to connect with the device/,
    "The chip does not respond. Check the cable, hold the board's BOOT button while you press RESET, and retry.",
  ],
  [
    /Serial data stream stopped|No serial data received|serial noise/,
    "The chip stopped responding. Check the cable or select a lower speed, and retry.",
  ],
  [
    /MD5 of file does not match/,
    "The data in flash is not the data that was sent. Select a lower speed and retry.",
  ],
];

/** Explains why a chip could not be reached or flashed, and what to do. */
export function explained(error: unknown): Error {
  const { name, message } = error instanceof Error ? error : { name: "", message: String(error) };
  const rule = RULES.find(([pattern]) => pattern.test(`${name}: ${message}`));
  return new Error(rule?.[1] ?? message, { cause: error });
}
