import { useEffect, useRef, useState } from "preact/hooks";

import { Badge, Empty, type Tone } from "./basics.tsx";
import { href } from "../lib/router.ts";
import { time } from "../lib/text.ts";
import type { LogLineView } from "../protocol.ts";
import { nameOf } from "../state/fleet.ts";

const TONES: Record<LogLineView["level"], Tone> = { debug: "calm", info: "busy", warning: "warn", error: "bad" };
/** So close to the end counts as the end, in pixels. */
const END_PX = 24;

interface Props {
  readonly lines: readonly LogLineView[];
  /** Whether to say of which device a line is. */
  readonly named?: boolean;
}

/** Lines of logs, the newest last; it follows the end unless someone has scrolled up. */
export function LogLines({ lines, named = false }: Props) {
  const list = useRef<HTMLOListElement>(null);
  const follows = useRef(true);
  const [text, setText] = useState("");
  const wanted = text.toLowerCase();
  const shown = lines.filter(({ tag, message }) => `${tag ?? ""} ${message}`.toLowerCase().includes(wanted));
  useEffect(() => {
    if (follows.current && list.current) {
      list.current.scrollTop = list.current.scrollHeight;
    }
  }, [shown.length, shown.at(-1)?.number]);
  const onScroll = () => {
    const element = list.current;
    follows.current = element !== null && element.scrollHeight - element.scrollTop - element.clientHeight < END_PX;
  };
  return (
    <>
      <input
        type="search"
        aria-label="Search the lines"
        placeholder="Search the lines"
        value={text}
        onInput={(event) => setText(event.currentTarget.value)}
      />
      {shown.length === 0 ? (
        <Empty>{lines.length === 0 ? "No lines of this level or higher." : `No line has “${text}”.`}</Empty>
      ) : (
        // eslint-disable-next-line jsx-a11y/no-noninteractive-tabindex -- a box that scrolls must be reached by keys
        <ol class="log" ref={list} onScroll={onScroll} tabIndex={0} aria-label="Lines">
          {shown.map((line) => (
            <li key={`${line.client_id} ${line.boot} ${line.number}`}>
              <span class="when">
                <time dateTime={line.received_at}>{time(line.received_at)}</time>
                <Badge tone={TONES[line.level]}>{line.level}</Badge>
                {named && <a href={href("device", line.client_id, "log")}>{nameOf(line.client_id)}</a>}
              </span>
              <code>
                {line.tag && <b>{line.tag} </b>}
                {line.message}
              </code>
            </li>
          ))}
        </ol>
      )}
    </>
  );
}
