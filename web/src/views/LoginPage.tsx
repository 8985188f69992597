import { useEffect } from "preact/hooks";

import { Notice } from "../components/basics.tsx";
import { Outcome, TextField } from "../components/fields.tsx";
import { useAction } from "../state/action.ts";
import { keptLogin, link, logIn } from "../state/session.ts";

export function LoginPage() {
  const action = useAction();
  const reason = link.value.state === "out" ? link.value.reason : undefined;
  const enter = (account: string, password: string, keep: boolean) =>
    action.run(async () => {
      await logIn(account, password, keep);
      return undefined;
    });
  useEffect(() => {
    const kept = keptLogin();
    if (kept !== undefined) {
      void enter(...kept, true);
    }
  }, []);
  const onSubmit = (event: SubmitEvent) => {
    event.preventDefault();
    const form = new FormData(event.currentTarget as HTMLFormElement);
    void enter(text(form, "account"), text(form, "password"), form.has("keep"));
  };
  return (
    <main class="login">
      <form onSubmit={onSubmit} aria-busy={action.busy}>
        <h1>device-mdm</h1>
        <p>Log in with an account of an admin at the broker on {window.location.hostname}.</p>
        <TextField
          label="Account"
          name="account"
          defaultValue="admin"
          autocomplete="username"
          autocapitalize="none"
          spellcheck={false}
          required
          pattern="[^\/+#]+"
        />
        <TextField label="Password" name="password" type="password" autocomplete="current-password" required />
        <label class="check">
          <input type="checkbox" name="keep" /> Stay logged in until this tab is closed
        </label>
        {reason && !action.busy && !action.error && <Notice tone="warn">{reason}</Notice>}
        <Outcome action={action} />
        <button type="submit" class="primary" disabled={action.busy}>
          {action.busy ? "Connecting…" : "Log in"}
        </button>
      </form>
    </main>
  );
}

function text(form: FormData, name: string): string {
  const value = form.get(name);
  return typeof value === "string" ? value : "";
}
