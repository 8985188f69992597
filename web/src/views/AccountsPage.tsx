import { useState } from "preact/hooks";

import { Ago, Answered, Badge, Notice, Table } from "../components/basics.tsx";
import { Outcome } from "../components/fields.tsx";
import { ShownOnce } from "../components/ShownOnce.tsx";
import { ConfirmButton, DialogButton, OperationForm } from "../components/form.tsx";
import { newPassword } from "../mqtt/asker.ts";
import {
  ACCOUNT_ADD,
  ACCOUNT_LIST,
  ACCOUNT_PASSWORD,
  ACCOUNT_REMOVE,
  ACCOUNT_ROLE,
  type AccountAdd,
  type AccountRole,
  type AccountView,
  type Role,
} from "../protocol.ts";
import { useAction } from "../state/action.ts";
import { useQuery } from "../state/query.ts";
import { ask, refusalFor } from "../state/session.ts";

const ROLES: readonly (readonly [Role, string])[] = [
  ["viewer", "viewer: sees, changes nothing"],
  ["operator", "operator: runs the fleet"],
  ["admin", "admin: also accounts, secrets and keys"],
  ["app", "app: reads and writes the devices' own topics"],
];

/** The accounts of people and of their applications. */
export function AccountsPage() {
  const refusal = refusalFor(ACCOUNT_LIST);
  const [shown, show] = useState<Shown>();
  return (
    <>
      <div class="title">
        <h1>Accounts</h1>
        {!refusal && <AddButton added={show} />}
      </div>
      {refusal ? <Notice tone="warn">{refusal}</Notice> : <Accounts show={show} />}
      {shown && (
        <ShownOnce title={`Password of ${shown.name}`} secret={shown.password} close={() => show(undefined)}>
          With it, {shown.name} logs in to the page and the tool.
        </ShownOnce>
      )}
    </>
  );
}

function AddButton({ added }: { added: (account: Shown) => void }) {
  return (
    <DialogButton label="Add account" title="Add account" tone="primary" needs={ACCOUNT_ADD}>
      {(close) => (
        <OperationForm<Omit<AccountAdd, "password">>
          specs={{ name: { label: "Name", required: true }, role: { label: "Role", options: ROLES } }}
          verb="Add"
          run={async (asked) => {
            // Made here, so that no service has to store it for a repeated request.
            const password = newPassword();
            await ask(ACCOUNT_ADD, { ...asked, password });
            added({ name: asked.name, password });
            close();
            return undefined;
          }}
        />
      )}
    </DialogButton>
  );
}

/** The password of an account, which is shown only here. */
interface Shown {
  readonly name: string;
  readonly password: string;
}

function Accounts({ show }: { show: (shown: Shown) => void }) {
  const action = useAction();
  const accounts = useQuery(
    "accounts",
    () => ask(ACCOUNT_LIST, {}),
    ({ noun }) => noun === "account",
  );
  const done = (text: string) => {
    accounts.refresh();
    void action.run(() => Promise.resolve(text));
  };
  return (
    <>
      <Outcome action={action} />
      <Answered query={accounts}>
        {({ accounts: found }) => (
          <Table label="Accounts" head={["Account", "Role", "By", "Added", "Actions"]}>
            {found.map((account) => (
              <Row key={account.name} account={account} done={done} show={show} />
            ))}
          </Table>
        )}
      </Answered>
    </>
  );
}

interface RowProps {
  readonly account: AccountView;
  readonly done: (text: string) => void;
  readonly show: (shown: Shown) => void;
}

function Row({ account, done, show }: RowProps) {
  const { name, role, author, created_at: at, present } = account;
  const labelled = (verb: string) => (
    <>
      {verb}
      <span class="unseen"> {name}</span>
    </>
  );
  return (
    <tr>
      <th scope="row">{name}</th>
      <td>
        {role} {!present && <Badge tone="bad">missing in the broker: set a password</Badge>}
      </td>
      <td>{author}</td>
      <td>
        <Ago at={at} />
      </td>
      <td class="actions">
        <DialogButton label={labelled("Role")} title={`Role of ${name}`} needs={ACCOUNT_ROLE}>
          {(close) => (
            <OperationForm<Omit<AccountRole, "name">>
              specs={{ role: { label: "Role", options: ROLES, initial: role } }}
              verb="Save"
              run={async (asked) => {
                await ask(ACCOUNT_ROLE, { ...asked, name });
                done(`${name} is ${asked.role} now.`);
                close();
                return undefined;
              }}
            />
          )}
        </DialogButton>
        <ConfirmButton
          label={labelled("New password")}
          title={`New password of ${name}?`}
          verb="Make a new password"
          needs={ACCOUNT_PASSWORD}
          run={async () => {
            const password = newPassword();
            await ask(ACCOUNT_PASSWORD, { name, password });
            show({ name, password });
            return undefined;
          }}
        >
          The old one is refused, and sessions with it are ended.
        </ConfirmButton>
        <ConfirmButton
          label={labelled("Remove")}
          title={`Remove ${name}?`}
          verb="Remove"
          tone="danger"
          needs={ACCOUNT_REMOVE}
          run={async () => {
            await ask(ACCOUNT_REMOVE, { name });
            done(`${name} was removed.`);
            return undefined;
          }}
        >
          Its sessions are ended, and it is refused from then on.
        </ConfirmButton>
      </td>
    </tr>
  );
}
