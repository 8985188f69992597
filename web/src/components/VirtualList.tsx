import type { ComponentChildren } from "preact";
import { useEffect, useLayoutEffect, useRef, useState } from "preact/hooks";

import type { Order } from "../lib/sorting.ts";

const ROW_PX = 44;
const SPARE_ROWS = 8;

export interface Column<T> {
  readonly name: string;
  /** Its share of the width. */
  readonly share: number;
  readonly cell: (item: T) => ComponentChildren;
}

interface Props<T> {
  readonly label: string;
  /** The first has the link of a row. */
  readonly columns: readonly Column<T>[];
  readonly items: readonly T[];
  readonly keyOf: (item: T) => string;
  readonly hrefOf: (item: T) => string;
  /** What its checkbox is called. */
  readonly nameOf: (item: T) => string;
  readonly order: Order | undefined;
  readonly sort: (order: Order | undefined) => void;
  /** The keys of the selected items. */
  readonly selected: ReadonlySet<string>;
  readonly select: (keys: ReadonlySet<string>) => void;
}

/** Ascending, descending, as they come. */
function next(column: string, order: Order | undefined): Order | undefined {
  if (order?.column !== column) {
    return { column, isDescending: false };
  }
  return order.isDescending ? undefined : { column, isDescending: true };
}

function sortOf(column: string, order: Order | undefined): "ascending" | "descending" | undefined {
  return order?.column === column ? (order.isDescending ? "descending" : "ascending") : undefined;
}

function toggled(keys: ReadonlySet<string>, key: string): ReadonlySet<string> {
  const found = new Set(keys);
  return found.delete(key) ? found : found.add(key);
}

/** A table of any length; only visible rows are in the document, and arrow keys move between rows. */
export function VirtualList<T>(props: Props<T>) {
  const { label, columns, items, keyOf, hrefOf, nameOf, order, sort, selected, select } = props;
  const box = useRef<HTMLDivElement>(null);
  const [top, setTop] = useState(0);
  const [height, setHeight] = useState(600);
  const [active, setActive] = useState(0);
  const focusWanted = useRef(false);

  useLayoutEffect(() => {
    const element = box.current;
    if (element === null) {
      return;
    }
    const observer = new ResizeObserver(() => setHeight(element.clientHeight));
    observer.observe(element);
    return () => observer.disconnect();
  }, []);

  const last = Math.max(0, items.length - 1);
  const here = Math.min(active, last);
  const first = Math.max(0, Math.floor(top / ROW_PX) - SPARE_ROWS);
  const shown = items.slice(first, Math.ceil((top + height) / ROW_PX) + SPARE_ROWS);

  useEffect(() => {
    if (focusWanted.current) {
      focusWanted.current = false;
      box.current?.querySelector<HTMLElement>(`[data-index="${here}"]`)?.focus({ preventScroll: true });
    }
  });

  const moveTo = (index: number) => {
    const target = Math.min(last, Math.max(0, index));
    const element = box.current;
    if (element !== null) {
      const above = target * ROW_PX;
      const below = above + ROW_PX - element.clientHeight;
      element.scrollTop = Math.min(above, Math.max(below, element.scrollTop));
      setTop(element.scrollTop);
    }
    focusWanted.current = true;
    setActive(target);
  };
  const onKeyDown = (event: KeyboardEvent) => {
    const page = Math.max(1, Math.floor(height / ROW_PX) - 1);
    const steps: Partial<Record<string, number>> = {
      ArrowDown: here + 1,
      ArrowUp: here - 1,
      PageDown: here + page,
      PageUp: here - page,
      Home: 0,
      End: last,
    };
    const target = steps[event.key];
    if (target !== undefined) {
      event.preventDefault();
      moveTo(target);
    }
  };

  return (
    <div
      class="virtual"
      role="table"
      aria-label={label}
      aria-rowcount={items.length + 1}
      style={{ "--columns": columns.map(({ share }) => `minmax(0, ${share}fr)`).join(" ") }}
    >
      <div class="row head" role="row" aria-rowindex={1}>
        <span role="columnheader">
          <input
            type="checkbox"
            aria-label="Select all"
            checked={items.length > 0 && items.every((item) => selected.has(keyOf(item)))}
            onChange={(event) => select(new Set(event.currentTarget.checked ? items.map(keyOf) : []))}
          />
        </span>
        {columns.map(({ name }) => (
          <span key={name} role="columnheader" aria-sort={sortOf(name, order)}>
            <button type="button" class="plain" onClick={() => sort(next(name, order))}>
              {name}
              <span aria-hidden="true">{order?.column === name && (order.isDescending ? " ↓" : " ↑")}</span>
            </button>
          </span>
        ))}
      </div>
      {/* eslint-disable-next-line jsx-a11y/no-noninteractive-element-interactions -- the keys move between the links in it */}
      <div
        class="rows"
        role="rowgroup"
        ref={box}
        onScroll={(event) => setTop(event.currentTarget.scrollTop)}
        onKeyDown={onKeyDown}
      >
        <div style={{ height: `${items.length * ROW_PX}px` }} role="presentation">
          <div style={{ transform: `translateY(${first * ROW_PX}px)` }} role="presentation">
            {shown.map((item, offset) => {
              const index = first + offset;
              const [name, ...others] = columns.map(({ cell }) => cell(item));
              return (
                <div key={keyOf(item)} class="row" role="row" aria-rowindex={index + 2}>
                  <span role="cell">
                    <input
                      type="checkbox"
                      aria-label={`Select ${nameOf(item)}`}
                      tabIndex={index === here ? 0 : -1}
                      checked={selected.has(keyOf(item))}
                      onChange={() => select(toggled(selected, keyOf(item)))}
                    />
                  </span>
                  <span role="cell">
                    <a
                      href={hrefOf(item)}
                      data-index={index}
                      tabIndex={index === here ? 0 : -1}
                      onFocus={() => setActive(index)}
                    >
                      {name}
                    </a>
                  </span>
                  {others.map((cell, column) => (
                    <span key={column} role="cell">
                      {cell}
                    </span>
                  ))}
                </div>
              );
            })}
          </div>
        </div>
      </div>
    </div>
  );
}
