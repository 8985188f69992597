import { signal } from "@preact/signals";

const KEPT = "mdm-views";

/** A search of the device list under a name, kept in this browser. */
export interface SavedView {
  readonly name: string;
  readonly text: string;
}

export const savedViews = signal<readonly SavedView[]>(read());

export function saveView(view: SavedView): void {
  keep([...savedViews.value.filter(({ name }) => name !== view.name), view]);
}

export function forgetView(name: string): void {
  keep(savedViews.value.filter((view) => view.name !== name));
}

function keep(views: readonly SavedView[]): void {
  savedViews.value = views;
  if (views.length > 0) {
    localStorage.setItem(KEPT, JSON.stringify(views));
  } else {
    localStorage.removeItem(KEPT);
  }
}

function read(): SavedView[] {
  try {
    return JSON.parse(localStorage.getItem(KEPT) ?? "[]") as SavedView[];
  } catch {
    return []; // somebody else's, or nothing that can be read
  }
}
