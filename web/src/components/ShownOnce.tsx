import type { ComponentChildren } from "preact";

import { Dialog } from "./basics.tsx";

interface Props {
  readonly title: string;
  readonly secret: string;
  readonly close: () => void;
  /** What it is for. */
  readonly children: ComponentChildren;
}

/** A dialog with a secret that is stored nowhere. */
export function ShownOnce({ title, secret, close, children }: Props) {
  return (
    <Dialog title={title} close={close}>
      <div class="grid">
        <p>{children} Write it down now: it is stored nowhere, and not shown again.</p>
        <pre class="command">
          <code>{secret}</code>
        </pre>
        <footer>
          <button type="button" class="primary" onClick={close}>
            Done
          </button>
        </footer>
      </div>
    </Dialog>
  );
}
