import { signal } from "@preact/signals";

const KEPT = "mdm-columns";

/** Names of the columns of the device list that are not as they are by default, kept in this browser. */
export const changedColumns = signal<ReadonlySet<string>>(read());

export function changeColumns(names: ReadonlySet<string>): void {
  changedColumns.value = names;
  if (names.size > 0) {
    localStorage.setItem(KEPT, JSON.stringify([...names]));
  } else {
    localStorage.removeItem(KEPT);
  }
}

function read(): ReadonlySet<string> {
  try {
    return new Set(JSON.parse(localStorage.getItem(KEPT) ?? "[]") as string[]);
  } catch {
    return new Set(); // somebody else's, or nothing that can be read
  }
}
