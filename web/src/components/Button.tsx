import type { ButtonHTMLAttributes } from "preact";

import type { Operation } from "../protocol.ts";
import { refusalFor } from "../state/session.ts";

export type Needed = Pick<Operation<unknown, unknown>, "role">;

/** A button for an operation; if the account may not use it, it is off and says why. */
export function Button({
  needs,
  disabled,
  ...button
}: { needs: Needed; disabled?: boolean } & ButtonHTMLAttributes) {
  const refusal = refusalFor(needs);
  return (
    <button type="button" {...button} disabled={(disabled ?? false) || refusal !== undefined} title={refusal} />
  );
}
