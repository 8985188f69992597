import { useState } from "preact/hooks";

import { Ago, Answered, Badge, Empty, Panel, Table, type Tone } from "../components/basics.tsx";
import { Outcome } from "../components/fields.tsx";
import { ShownOnce } from "../components/ShownOnce.tsx";
import { Button } from "../components/Button.tsx";
import { ConfirmButton, DialogButton, OperationForm } from "../components/form.tsx";
import {
  NOTIFICATION_ADD,
  NOTIFICATION_HISTORY,
  NOTIFICATION_LIST,
  NOTIFICATION_REMOVE,
  NOTIFICATION_TEST,
  type NotificationAdd,
  type NotificationRuleAdded,
  type NotificationRuleView,
  type NotificationView,
} from "../protocol.ts";
import { useAction } from "../state/action.ts";
import { useInterval } from "../state/interval.ts";
import { useQuery } from "../state/query.ts";
import { ask } from "../state/session.ts";

const REFRESH_MS = 5_000;
const CONDITIONS: Record<NotificationAdd["condition"], string> = {
  silent: "a device is silent",
  share_silent: "a share of devices is silent",
  unhealthy: "a device is not healthy",
  critical: "a device is critical",
  core_dump: "a device has crashed",
  secret_old: "a secret is too old",
  rollout_halted: "a rollout has halted",
  claim_waits: "a machine waits for approval",
  certificate_ends: "a certificate ends soon",
};
const DELIVERIES: Record<NotificationView["delivery"], Tone> = {
  waiting: "busy",
  delivered: "good",
  failed: "bad",
};

/** Who is told of what: the rules, and the newest messages. */
export function NotificationsPage() {
  const [added, setAdded] = useState<NotificationRuleAdded>();
  const action = useAction();
  const rules = useQuery("notification rules", () => ask(NOTIFICATION_LIST, {}));
  const history = useQuery("notifications", () => ask(NOTIFICATION_HISTORY, {}));
  const refresh = () => {
    rules.refresh();
    history.refresh();
  };
  useInterval(refresh, REFRESH_MS);
  const test = (name: string) =>
    action.run(async () => {
      await ask(NOTIFICATION_TEST, { name });
      refresh();
      return "A test message is on its way; what becomes of it is shown below.";
    });
  return (
    <>
      <div class="title">
        <h1>Notifications</h1>
        <DialogButton label="Add rule" title="Add rule" tone="primary" needs={NOTIFICATION_ADD}>
          {(close) => (
            <AddRule
              added={(rule) => {
                refresh();
                close();
                setAdded(rule);
              }}
            />
          )}
        </DialogButton>
      </div>
      <Outcome action={action} />
      <Answered query={rules}>
        {({ rules: found }) =>
          found.length === 0 ? (
            <Empty>No rules yet. Add one to be told by a webhook, mail, ntfy, Telegram and many others.</Empty>
          ) : (
            <Table label="Rules" head={["Rule", "When", "Devices", "To", "State", "Actions"]}>
              {found.map((rule) => (
                <Rule key={rule.name} rule={rule} test={test} removed={refresh} />
              ))}
            </Table>
          )
        }
      </Answered>
      <Panel title="Messages">
        <Answered query={history}>
          {({ notifications }) =>
            notifications.length === 0 ? (
              <Empty>No messages yet.</Empty>
            ) : (
              <Table label="Messages" head={["Time", "Rule", "Message", "Delivery"]}>
                {notifications.map(({ id, created_at: at, rule, text, delivery, attempts, error }) => (
                  <tr key={id}>
                    <td>
                      <Ago at={at} />
                    </td>
                    <td>{rule}</td>
                    <td>{text}</td>
                    <td>
                      <Badge tone={DELIVERIES[delivery]}>{delivery}</Badge>{" "}
                      {error && (
                        <small>
                          {attempts} attempts: {error}
                        </small>
                      )}
                    </td>
                  </tr>
                ))}
              </Table>
            )
          }
        </Answered>
      </Panel>
      {added?.key && (
        <ShownOnce title={`Signing key of ${added.name}`} secret={added.key} close={() => setAdded(undefined)}>
          Messages are signed with it, by which the receiver knows them.
        </ShownOnce>
      )}
    </>
  );
}

interface RuleProps {
  readonly rule: NotificationRuleView;
  readonly test: (name: string) => Promise<void>;
  readonly removed: () => void;
}

function Rule({ rule, test, removed }: RuleProps) {
  const { name, condition, device, tag, model, target, firing, waiting, last_error: error } = rule;
  return (
    <tr>
      <th scope="row">{name}</th>
      <td>{CONDITIONS[condition]}</td>
      <td>{device ?? (tag ? `tag ${tag}` : model ? `model ${model}` : "all")}</td>
      <td>{target}</td>
      <td>
        {firing > 0 ? <Badge tone="warn">{firing} firing</Badge> : <Badge tone="good">quiet</Badge>}{" "}
        {waiting > 0 && <small>{waiting} not delivered yet</small>} {error && <small>{error}</small>}
      </td>
      <td class="actions">
        <Button needs={NOTIFICATION_TEST} onClick={() => void test(name)}>
          Test<span class="unseen"> {name}</span>
        </Button>
        <ConfirmButton
          label={
            <>
              Remove<span class="unseen"> {name}</span>
            </>
          }
          title={`Remove ${name}?`}
          verb="Remove rule"
          tone="danger"
          needs={NOTIFICATION_REMOVE}
          run={async () => {
            await ask(NOTIFICATION_REMOVE, { name });
            removed();
            return undefined;
          }}
        >
          Nobody is told by it any more, and its messages that wait are dropped.
        </ConfirmButton>
      </td>
    </tr>
  );
}

function AddRule({ added }: { added: (rule: NotificationRuleAdded) => void }) {
  return (
    <OperationForm<NotificationAdd>
      specs={{
        name: { label: "Name", required: true, hint: "a-z, digits, _ and -." },
        condition: { label: "When", options: Object.entries(CONDITIONS) },
        url: {
          label: "To",
          required: true,
          placeholder: "https://example.org/hook",
          hint: "URL of a webhook, or one of Apprise, such as ntfy://topic, mailto:// or tgram://.",
        },
        hold_s: {
          label: "Only if it lasts, in seconds",
          kind: "number",
          initial: 600,
          min: 0,
          hint: "As long for its end: what comes and goes is not told.",
        },
        tag: { label: "Only devices with this tag" },
        model: { label: "Only devices of this model" },
        percent: { label: "Share in percent", kind: "number", placeholder: "20", min: 1, max: 100 },
      }}
      verb="Add"
      run={async (asked) => {
        added(await ask(NOTIFICATION_ADD, asked));
        return undefined;
      }}
    />
  );
}
