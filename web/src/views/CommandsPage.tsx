import { useState } from "preact/hooks";

import { ALL, SelectionField } from "../components/selection.tsx";
import { Commands } from "./device/Commands.tsx";

/** Commands to all devices, to a model or to a tag, and the newest results of all. */
export function CommandsPage() {
  const [of, select] = useState(ALL);
  return (
    <>
      <h1>Commands</h1>
      <div class="searching">
        <SelectionField of={of} change={select} />
      </div>
      <Commands of={of} />
    </>
  );
}
