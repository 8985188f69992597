import { draw, HEIGHT, WIDTH, type Place } from "../lib/trend.ts";
import { hour, time } from "../lib/text.ts";
import { amount } from "../lib/vitals.ts";
import type { VitalPoint } from "../protocol.ts";

/** How a vital went: the means as a line, lowest and highest as a band, and where other firmware ran. */
export function Trend({ name, points }: { name: string; points: readonly VitalPoint[] }) {
  const { lowest, highest, runs, changes } = draw(points);
  const [low, high] = [amount(name, lowest), amount(name, highest)];
  const range = low === high ? low : `${low} to ${high}`;
  const firmware = changes.map(({ version, at }) => `firmware ${version} from ${time(at)}`);
  return (
    <div class="trend">
      <div class="scale" aria-hidden="true">
        <span>{high}</span>
        <span>{low}</span>
      </div>
      <svg
        viewBox={`0 0 ${WIDTH} ${HEIGHT}`}
        preserveAspectRatio="none"
        role="img"
        aria-label={[`${name}: ${range}`, ...firmware].join("; ")}
      >
        {changes.map(({ x, at }) => (
          <line key={at} class="change" x1={x} x2={x} y1="0" y2={HEIGHT} />
        ))}
        {runs.map((run) => (
          <Run key={run[0]?.x} run={run} />
        ))}
      </svg>
      <div class="ends" aria-hidden="true">
        <span>{hour(points[0]?.at)}</span>
        <span>{points.length > 1 && hour(points.at(-1)?.at)}</span>
      </div>
      {firmware.length > 0 && <small>{firmware.join("; ")}</small>}
    </div>
  );
}

function Run({ run }: { run: readonly Place[] }) {
  const [only] = run;
  if (run.length === 1 && only !== undefined) {
    return (
      <>
        <line class="range" x1={only.x} x2={only.x} y1={only.low} y2={only.high} />
        <line class="mean" x1={only.x - 2} x2={only.x + 2} y1={only.mean} y2={only.mean} />
      </>
    );
  }
  const band = [...run.map(({ x, high }) => `${x},${high}`), ...run.map(({ x, low }) => `${x},${low}`).reverse()];
  return (
    <>
      <polygon class="range" points={band.join(" ")} />
      <polyline class="mean" points={run.map(({ x, mean }) => `${x},${mean}`).join(" ")} />
    </>
  );
}
