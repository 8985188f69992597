import type { Tone } from "./basics.tsx";

export interface Slice {
  readonly name: string;
  readonly count: number;
  readonly tone?: Tone;
  /** The list of these devices. */
  readonly href?: string;
}

const RADIUS = 15.9155; // of a circle with a circumference of 100

/** Shares of a whole as a ring, with a legend in text. */
export function Ring({ label, slices }: { label: string; slices: readonly Slice[] }) {
  const whole = slices.reduce((sum, { count }) => sum + count, 0);
  let before = 0;
  return (
    <figure class="ring">
      <svg viewBox="0 0 40 40" aria-hidden="true">
        <circle class="track" cx="20" cy="20" r={RADIUS} />
        <g transform="rotate(-90 20 20)">
          {slices.map(({ name, count, tone = "calm" }) => {
            const share = whole === 0 ? 0 : (100 * count) / whole;
            const start = before;
            before += share;
            return share > 0 && <Arc key={name} tone={tone} start={start} share={share} />;
          })}
        </g>
        <text x="20" y="20" class="whole">
          {whole.toLocaleString()}
        </text>
      </svg>
      <Legend label={label} slices={slices} />
    </figure>
  );
}

/** A part of the ring, in percent, followed by a small gap unless it is the whole. */
function Arc({ tone, start, share }: { tone: Tone; start: number; share: number }) {
  const length = share < 100 ? Math.max(0.6, share - 0.8) : 100;
  return (
    <circle
      class={`slice ${tone}`}
      cx="20"
      cy="20"
      r={RADIUS}
      stroke-dasharray={`${length} ${100 - length}`}
      stroke-dashoffset={-start}
    />
  );
}

function Legend({ label, slices }: { label: string; slices: readonly Slice[] }) {
  return (
    <ul class="legend" aria-label={label}>
      {slices.map(({ name, count, tone = "calm", href }) => (
        <li key={name} class={tone}>
          {href ? <a href={href}>{name}</a> : <span>{name}</span>}
          <b>{count.toLocaleString()}</b>
        </li>
      ))}
    </ul>
  );
}

/** Counts as bars; the longest takes the full width. */
export function Bars({ label, slices }: { label: string; slices: readonly Slice[] }) {
  const longest = Math.max(1, ...slices.map(({ count }) => count));
  return (
    <ul class="bars" aria-label={label}>
      {slices.map(({ name, count, tone = "busy", href }) => (
        <li key={name}>
          {href ? <a href={href}>{name}</a> : <span>{name}</span>}
          <svg viewBox="0 0 100 8" preserveAspectRatio="none" aria-hidden="true">
            <rect class="track" width="100" height="8" rx="1" />
            <rect class={`bar ${tone}`} width={(100 * count) / longest} height="8" rx="1" />
          </svg>
          <b>{count.toLocaleString()}</b>
        </li>
      ))}
    </ul>
  );
}

/** One bar, divided into parts. */
export function Stack({ label, slices }: { label: string; slices: readonly Slice[] }) {
  const whole = Math.max(
    1,
    slices.reduce((sum, { count }) => sum + count, 0),
  );
  let before = 0;
  const words = slices.filter(({ count }) => count > 0).map(({ name, count }) => `${count} ${name}`);
  return (
    <div class="stack">
      <svg viewBox="0 0 100 8" preserveAspectRatio="none" role="img" aria-label={`${label}: ${words.join(", ")}`}>
        <rect class="track" width="100" height="8" />
        {slices.map(({ name, count, tone = "calm" }) => {
          const x = (100 * before) / whole;
          before += count;
          return <rect key={name} class={`bar ${tone}`} x={x} width={(100 * count) / whole} height="8" />;
        })}
      </svg>
      <small>{words.join(" · ") || "none"}</small>
    </div>
  );
}
