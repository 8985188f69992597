import { Answered, Dialog, Notice } from "../../components/basics.tsx";
import { Outcome } from "../../components/fields.tsx";
import { effectDone, effectLines } from "../../lib/connections.ts";
import type { ConnectionEffect } from "../../protocol.ts";
import { useAction } from "../../state/action.ts";
import { useQuery } from "../../state/query.ts";

interface Props {
  readonly title: string;
  readonly verb: string;
  readonly change: (isDry: boolean) => Promise<ConnectionEffect>;
  readonly close: () => void;
  readonly saved: (done: string) => void;
}

/** Shows what a change will do, and asks. */
export function ConfirmConnection({ title, verb, change, close, saved }: Props) {
  const expected = useQuery(title, () => change(true));
  const action = useAction();
  const make = () =>
    action.run(async () => {
      saved(effectDone(await change(false)));
      close();
      return undefined;
    });
  return (
    <Dialog title={title} close={close}>
      <div class="grid">
        <Answered query={expected}>{(effect) => <Expected effect={effect} />}</Answered>
        <Outcome action={action} />
        <footer>
          <button type="button" onClick={close}>
            Cancel
          </button>
          <button type="button" class="danger" disabled={action.busy || !expected.data} onClick={make}>
            {verb}
          </button>
        </footer>
      </div>
    </Dialog>
  );
}

/** The expected effect of a change, with what speaks against it. */
export function Expected({ effect }: { effect: ConnectionEffect }) {
  return (
    <Notice tone={effect.unable > 0 || effect.warnings.length > 0 ? "warn" : "good"}>
      {effectLines(effect).map((line) => (
        <p key={line}>{line}</p>
      ))}
      {effect.warnings.length > 0 && (
        <ul>
          {effect.warnings.map((warning) => (
            <li key={warning}>Warning: {warning}</li>
          ))}
        </ul>
      )}
    </Notice>
  );
}
