const KIBIBYTE = 1024;
const UNITS: readonly (readonly [unit: string, seconds: number])[] = [
  ["d", 86_400],
  ["h", 3_600],
  ["min", 60],
];

/** A number of a vital with the unit that ends its name, as in heap_free_bytes. */
export function amount(name: string, value: number): string {
  switch (name.slice(name.lastIndexOf("_") + 1)) {
    case "bytes":
      return value >= KIBIBYTE * KIBIBYTE
        ? `${digits(value / KIBIBYTE / KIBIBYTE)} MiB`
        : `${digits(value / KIBIBYTE)} KiB`;
    case "s":
      return duration(value);
    case "ms":
      return `${digits(value)} ms`;
    case "mv":
      return `${digits(value / 1000)} V`;
    case "dbm":
      return `${digits(value)} dBm`;
    case "percent":
      return `${digits(value)} %`;
    case "celsius":
      return `${digits(value)} °C`;
    default:
      return digits(value);
  }
}

/** Seconds in the two largest units that they have: 3 d 4 h. */
export function duration(seconds: number): string {
  const first = UNITS.findIndex(([, length]) => seconds >= length);
  const [unit, length] = UNITS[first] ?? ["s", 1];
  if (length === 1) {
    return `${digits(seconds)} s`;
  }
  const [smaller, shorter] = UNITS[first + 1] ?? ["s", 1];
  const rest = Math.floor((seconds % length) / shorter);
  return `${Math.floor(seconds / length)} ${unit}${rest > 0 ? ` ${rest} ${smaller}` : ""}`;
}

/** The strength of a Wi-Fi signal in words. */
export function signal(dbm: number): string {
  return dbm >= -60 ? "strong" : dbm >= -70 ? "good" : dbm >= -80 ? "weak" : "very weak";
}

function digits(value: number): string {
  return value.toLocaleString(undefined, { maximumFractionDigits: Math.abs(value) < 100 ? 2 : 0 });
}
