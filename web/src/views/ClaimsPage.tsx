import { Ago, Answered, Badge, Empty, Notice, Panel, Table, type Tone } from "../components/basics.tsx";
import { ConfirmButton, DialogButton, OperationForm } from "../components/form.tsx";
import { save } from "../flash/files.ts";
import { newPassword } from "../mqtt/asker.ts";
import { href } from "../lib/router.ts";
import { time } from "../lib/text.ts";
import {
  CLAIM_ADD,
  CLAIM_APPROVE,
  CLAIM_DENY,
  CLAIM_FORGET,
  CLAIM_LIST,
  CLAIM_REQUESTS,
  CLAIM_REVOKE,
  type ClaimAdd,
  type ClaimAdded,
  type ClaimRequestView,
  type ClaimView,
} from "../protocol.ts";
import { modelOptions, useModels } from "../state/models.ts";
import { useQuery, type Query } from "../state/query.ts";
import { ask } from "../state/session.ts";

const STATES: Record<ClaimView["state"], Tone> = {
  live: "good",
  "used up": "calm",
  expired: "warn",
  revoked: "bad",
};
const REQUESTS: Record<ClaimRequestView["state"], Tone> = { pending: "busy", granted: "good", denied: "bad" };
const LIFETIMES = [
  [String(3_600), "1 hour"],
  [String(86_400), "1 day"],
  [String(7 * 86_400), "1 week"],
  [String(30 * 86_400), "30 days"],
] as const;

/** Claims, with which machines request their identity by themselves, and the machines that have. */
export function ClaimsPage() {
  const about = ({ noun }: { noun: string }) => noun === "claim";
  const claims = useQuery("claims", () => ask(CLAIM_LIST, { all: true }), about);
  const requests = useQuery("claim requests", () => ask(CLAIM_REQUESTS, {}), about);
  const refresh = () => {
    claims.refresh();
    requests.refresh();
  };
  return (
    <>
      <div class="title">
        <h1>Claims</h1>
        <DialogButton label="Create claim" title="Create claim" tone="primary" needs={CLAIM_ADD}>
          {(close) => <CreateClaim close={close} created={refresh} />}
        </DialogButton>
      </div>
      <p>
        A claim is one package for many machines of a model: each requests an identity of its own with it, when it
        starts for the first time.
      </p>
      <Panel title="Machines">
        <Answered query={requests}>
          {({ requests: found }) =>
            found.length === 0 ? (
              <Empty>No machine has used a claim yet. One that does appears here by itself.</Empty>
            ) : (
              <Table label="Machines" head={["Machine", "Model", "State", "Requested", "Device", "Actions"]}>
                {found.map((request) => (
                  <Machine key={request.uid} request={request} refresh={refresh} />
                ))}
              </Table>
            )
          }
        </Answered>
      </Panel>
      <Claims query={claims} refresh={refresh} />
    </>
  );
}

function Machine({ request, refresh }: { request: ClaimRequestView; refresh: () => void }) {
  const { uid, model, state, client_id: device, requested_at: at } = request;
  const then = (work: () => Promise<unknown>) => async () => {
    await work();
    refresh();
    return undefined;
  };
  return (
    <tr>
      <th scope="row">
        <code>{uid}</code>
      </th>
      <td>{model}</td>
      <td>
        <Badge tone={REQUESTS[state]}>{state === "pending" ? "waits for approval" : state}</Badge>
      </td>
      <td>
        <Ago at={at} />
      </td>
      <td>{device ? <a href={href("device", device)}>{device}</a> : "–"}</td>
      <td class="actions">
        {state === "pending" && (
          <>
            <ConfirmButton
              label="Approve"
              title={`Approve ${uid}?`}
              verb="Approve"
              needs={CLAIM_APPROVE}
              run={then(() => ask(CLAIM_APPROVE, { uid }))}
            >
              The machine becomes a device of {model} and gets its package.
            </ConfirmButton>
            <ConfirmButton
              label="Deny"
              title={`Deny ${uid}?`}
              verb="Deny"
              tone="danger"
              needs={CLAIM_DENY}
              run={then(() => ask(CLAIM_DENY, { uid }))}
            >
              The machine gets no identity, until its request is forgotten.
            </ConfirmButton>
          </>
        )}
        {state === "denied" && (
          <ConfirmButton
            label="Forget"
            title={`Forget the request of ${uid}?`}
            verb="Forget"
            needs={CLAIM_FORGET}
            run={then(() => ask(CLAIM_FORGET, { uid }))}
          >
            The machine may request again.
          </ConfirmButton>
        )}
      </td>
    </tr>
  );
}

function Claims({ query, refresh }: { query: Query<{ claims: ClaimView[] }>; refresh: () => void }) {
  return (
    <Panel title="Claims">
      <Answered query={query}>
        {({ claims }) =>
          claims.length === 0 ? (
            <Empty>No claims yet.</Empty>
          ) : (
            <Table label="Claims" head={["Claim", "Model", "Tags", "State", "Used", "Ends", "Actions"]}>
              {claims.map((claim) => (
                <tr key={claim.claim}>
                  <th scope="row">{claim.claim}</th>
                  <td>{claim.model}</td>
                  <td>{claim.tags.join(", ") || "–"}</td>
                  <td>
                    <Badge tone={STATES[claim.state]}>{claim.state}</Badge>{" "}
                    {claim.needs_approval && <small>needs approval</small>}
                  </td>
                  <td>
                    {claim.used} of {claim.uses}
                  </td>
                  <td>{time(claim.expires_at)}</td>
                  <td class="actions">
                    {claim.state === "live" && (
                      <ConfirmButton
                        label="Revoke"
                        title={`Revoke ${claim.claim}?`}
                        verb="Revoke"
                        tone="danger"
                        needs={CLAIM_REVOKE}
                        run={async () => {
                          await ask(CLAIM_REVOKE, { claim: claim.claim });
                          refresh();
                          return undefined;
                        }}
                      >
                        Nobody gets an identity with it any more. Devices that were added with it remain.
                      </ConfirmButton>
                    )}
                  </td>
                </tr>
              ))}
            </Table>
          )
        }
      </Answered>
    </Panel>
  );
}

function CreateClaim({ close, created }: { close: () => void; created: () => void }) {
  const models = useModels();
  return (
    <Answered query={models}>
      {(found) =>
        found.models.length === 0 ? (
          <Notice tone="warn">
            No models yet. <a href={href("models")}>Add one</a> first.
          </Notice>
        ) : (
          <OperationForm<Omit<ClaimAdd, "password">>
            specs={{
              model: { label: "Model of the machines", options: modelOptions(found) },
              tags: { label: "Tags of its devices", kind: "words", hint: "Separated by spaces." },
              uses: { label: "Machines at most", kind: "number", initial: 1, min: 1, required: true },
              expires_in_s: { label: "Valid for", options: LIFETIMES, initial: "86400" },
              needs_approval: { label: "Ask before a machine gets its identity", kind: "check" },
            }}
            verb="Create and download its package"
            run={async (asked) => {
              // Made here, so that no service has to store it for a repeated request.
              const password = newPassword();
              const lifetime = Number(asked.expires_in_s);
              const added = await ask(CLAIM_ADD, { ...asked, expires_in_s: lifetime, password });
              save(`${added.claim}.json`, packageText(added, password), "application/json");
              created();
              close();
              return undefined;
            }}
          >
            <small>The package is a secret: with it, any machine can request an identity until it ends.</small>
          </OperationForm>
        )
      }
    </Answered>
  );
}

/** The package of a claim, as `mdm claim create` writes it. */
function packageText(added: ClaimAdded, password: string): string {
  const { claim, mqtt_host, mqtt_port, mqtt_tls, ca_certificate, expires_at } = added;
  const found = {
    format: "mdm-claim/1",
    account: claim,
    password,
    mqtt_host,
    mqtt_port,
    mqtt_tls,
    ca_certificate,
    expires_at,
  };
  return `${JSON.stringify(found, null, 2)}\n`;
}
