import { useState } from "preact/hooks";

import { ALL, SelectionField } from "../components/selection.tsx";
import { Log } from "./device/Log.tsx";

/** The log of all devices, of a model or of a tag. */
export function LogPage() {
  const [of, select] = useState(ALL);
  return (
    <>
      <h1>Log</h1>
      <div class="searching">
        <SelectionField of={of} change={select} />
      </div>
      <Log key={JSON.stringify(of)} of={of} />
    </>
  );
}
