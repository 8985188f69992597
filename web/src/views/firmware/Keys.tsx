import { useState } from "preact/hooks";

import { Ago, Answered, Empty, Panel, Table } from "../../components/basics.tsx";
import { SelectField } from "../../components/fields.tsx";
import { ConfirmButton, DialogButton, OperationForm } from "../../components/form.tsx";
import { KEY_ADD, KEY_LIST, KEY_REMOVE, type KeyAdd, type Models } from "../../protocol.ts";
import { modelOptions, useModels } from "../../state/models.ts";
import { useQuery } from "../../state/query.ts";
import { ask } from "../../state/session.ts";

/** The keys of which one must have signed each image of a model. */
export function Keys() {
  const models = useModels();
  return (
    <Answered query={models}>{(found) => (found.models.length > 0 ? <KeysOf models={found} /> : null)}</Answered>
  );
}

function KeysOf({ models }: { models: Models }) {
  const [model, setModel] = useState(models.models[0]?.code ?? "");
  const keys = useQuery(`keys ${model}`, () => ask(KEY_LIST, { model }));
  return (
    <Panel
      title="Signing keys"
      actions={
        <SelectField
          label="Model"
          value={model}
          options={modelOptions(models)}
          onChange={(event) => setModel(event.currentTarget.value)}
        />
      }
    >
      <p>A model with keys takes only images that one of them has signed.</p>
      <Answered query={keys}>
        {({ keys: found }) =>
          found.length === 0 ? (
            <Empty>No keys: images of {model} need no signature.</Empty>
          ) : (
            <Table label="Signing keys" head={["Fingerprint", "By", "Added", "Actions"]}>
              {found.map(({ fingerprint, author, created_at: at }) => (
                <tr key={fingerprint}>
                  <th scope="row">
                    <code>{fingerprint}</code>
                  </th>
                  <td>{author}</td>
                  <td>
                    <Ago at={at} />
                  </td>
                  <td class="actions">
                    <ConfirmButton
                      label="Remove"
                      title="Remove the key?"
                      verb="Remove"
                      tone="danger"
                      needs={KEY_REMOVE}
                      run={async () => {
                        await ask(KEY_REMOVE, { model, fingerprint });
                        keys.refresh();
                        return undefined;
                      }}
                    >
                      Images that only this key has signed are not offered any more.
                    </ConfirmButton>
                  </td>
                </tr>
              ))}
            </Table>
          )
        }
      </Answered>
      <footer>
        <DialogButton label="Add key" title="Add signing key" needs={KEY_ADD}>
          {(close) => (
            <OperationForm<KeyAdd>
              specs={{
                public_key: {
                  label: "Public key",
                  required: true,
                  hint: "Ed25519, its 32 bytes in base64: openssl pkey -pubin -in key.pem -outform DER | tail -c 32 | base64",
                },
              }}
              verb="Add"
              run={async (asked) => {
                await ask(KEY_ADD, { ...asked, model });
                keys.refresh();
                close();
                return undefined;
              }}
            />
          )}
        </DialogButton>
      </footer>
    </Panel>
  );
}
