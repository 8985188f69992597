import { Answered, Notice } from "../../components/basics.tsx";
import { OperationForm } from "../../components/form.tsx";
import { plural } from "../../lib/text.ts";
import { IMAGE_RELEASE, ROLLOUT_PREFLIGHT, type ImageView, type RolloutFindings } from "../../protocol.ts";
import { useQuery } from "../../state/query.ts";
import { ask } from "../../state/session.ts";

/** Says who would take an image, then makes it the one of its model. */
export function Release({ image, done }: { image: ImageView; done: () => void }) {
  const { model, version } = image;
  const preflight = useQuery(`preflight ${model} ${version}`, () => ask(ROLLOUT_PREFLIGHT, { model, version }));
  return (
    <Answered query={preflight}>
      {(findings) => (
        <OperationForm<object>
          specs={{}}
          verb={`Release to ${plural(findings.fit + findings.already.count, "device")}`}
          run={async () => {
            await ask(IMAGE_RELEASE, { model, version });
            done();
            return undefined;
          }}
        >
          <Findings findings={findings} />
          <small>
            All devices of {model} are offered it at once, also those that are added later. To go by waves, start a
            rollout instead.
          </small>
        </OperationForm>
      )}
    </Answered>
  );
}

/** Who would take an image, and who not and why. */
export function Findings({ findings }: { findings: RolloutFindings }) {
  const { fit, already, count, never_seen: unseen, problems } = findings;
  return (
    <Notice tone={count > 0 || fit + already.count === 0 ? "warn" : "good"}>
      <p>
        {plural(fit, "device")} would take it; {already.count} already {already.count === 1 ? "runs" : "run"} it.
      </p>
      {unseen > 0 && <p>{plural(unseen, "device")} never seen.</p>}
      {count > 0 && (
        <>
          <p>{plural(count, "device")} would not:</p>
          <ul>
            {problems.slice(0, 10).map((problem) => (
              <li key={problem.client_id}>
                {problem.name || problem.client_id}: {problem.reason}
              </li>
            ))}
            {count > 10 && <li>and {count - 10} more</li>}
          </ul>
        </>
      )}
    </Notice>
  );
}
