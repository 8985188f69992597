"""Tables for people: of many rows, or of the facts of one object, each described by its columns.

A column is the name of an attribute, which is the heading too; a heading and the path of an attribute, such as
`by=author` or `failed=counts.failed`; or a heading and a function of the row. Names and paths can share a string,
separated by commas. A path through None is None.

A row of a table is one line. Columns that do not fit into the terminal are left out: those with the most dashes
before their heading first, as `--by=author`, and of these the last one.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import partial
from operator import itemgetter
from typing import Final, Generic, TypeAlias, TypeVar

from pydantic import BaseModel
from rich.cells import cell_len
from rich.console import Console
from rich.table import Table
from rich.text import Text

from cli import output
from shared.errors import InvalidInputError

_WIDEST: Final = 1_000_000
_GAP: Final = 2
_LEAST: Final = 16
"""Characters of a longer cell that are shown at least; ids are shown as a whole."""

Row = TypeVar("Row")
Column: TypeAlias = str | tuple[str, Callable[[Row], object]]


@dataclass(frozen=True, slots=True)
class _Shown(Generic[Row]):
    """A column: its heading, the function for its values, its dashes, and whether its cells are never cut."""

    heading: str
    value: Callable[[Row], object]
    dashes: int
    is_id: bool = False


def print_table(
    rows: Iterable[Row], columns: Sequence[Column[Row]], *, none: str | None = None, only: Sequence[str] = ()
) -> None:
    """Print aligned rows below a heading, or the note `none` if there are none.

    A terminal gets the columns that fit, with an ellipsis in cells that do not, and times as people say them; with
    `--wide`, and a pipe, all that there is. `only` names the columns to print. The first column identifies the row
    and is never cut, so that it can be copied.
    """
    shown = _chosen(list(_columns(columns)), only)
    console = Console(highlight=False)
    is_whole = output.WIDE.get() or not console.is_terminal
    now = None if is_whole else datetime.now(UTC)
    lines = [[output.cell(column.value(row), now=now) for column in shown] for row in rows]
    if none is not None and not lines:
        output.print_note(none)
        return
    table = Table(box=None, pad_edge=False, show_edge=False, padding=(0, _GAP, 0, 0))
    widths = _widths(shown, lines, _WIDEST if is_whole else console.width, all_of=bool(only))
    for number, width in widths.items():
        table.add_column(Text(shown[number].heading.upper()), width=width, no_wrap=True, overflow="ellipsis")
    for line in lines:
        table.add_row(*(Text(line[number]) for number in widths))
    _print(table, width=sum(widths.values()) + _GAP * (len(widths) - 1))


def print_table_below(rows: Sequence[Row], columns: Sequence[Column[Row]]) -> None:
    """Print a table apart from what stands above it, or nothing if there are no rows."""
    if rows:
        output.print_line("")
        print_table(rows, columns)


def _chosen(columns: list[_Shown[Row]], only: Sequence[str]) -> list[_Shown[Row]]:
    """Return the columns named in `only`, in its order, or all; raise InvalidInputError for an unknown name."""
    known = {column.heading.lower(): column for column in columns}
    names = [" ".join(name.lower().replace("_", " ").split()) for name in only]
    unknown = [name for name in names if name not in known]
    if unknown:
        raise InvalidInputError(f"--columns: there is no column {unknown[0]}; there are {', '.join(known)}")
    return [known[name] for name in names] or columns


def _widths(
    columns: Sequence[_Shown[Row]], lines: Sequence[Sequence[str]], room: int, *, all_of: bool
) -> dict[int, int]:
    """Return the width of each column that fits into `room`, or of `all_of` them, by its place in the row."""
    cells = zip(*([column.heading for column in columns], *lines), strict=True)
    natural = [max(map(cell_len, column)) for column in cells]
    widths: dict[int, int] = {}
    left = room + _GAP
    for number in sorted(range(len(columns)), key=lambda number: (columns[number].dashes, number)):
        is_whole = number == 0 or columns[number].is_id
        least = natural[number] if is_whole else min(natural[number], _LEAST)
        if widths and left < least + _GAP and not all_of:
            break
        widths[number] = least
        left -= least + _GAP
    for number, least in widths.items():
        more = max(0, min(left, natural[number] - least))
        widths[number] = least + more
        left -= more
    return dict(sorted(widths.items()))


def print_facts(thing: Row, columns: Sequence[Column[Row]]) -> None:
    """Print one object as aligned names and values; a document that does not fit into a line has several."""
    shown = list(_columns(columns))
    console = Console(highlight=False)
    indent = max((cell_len(column.heading) for column in shown), default=0) + _GAP
    table = Table(box=None, pad_edge=False, show_edge=False, show_header=False, padding=(0, _GAP, 0, 0))
    table.add_column(no_wrap=True)
    table.add_column(overflow="fold")
    for column in shown:
        value = column.value(thing)
        text = output.cell(value)
        if isinstance(value, dict) and cell_len(text) > console.width - indent:
            text = output.as_json(value, indent=2)
        elif isinstance(value, datetime) and console.is_terminal:
            ago = output.cell(value, now=datetime.now(UTC))
            text = text if text.startswith(ago) else f"{text} ({ago})"
        table.add_row(Text(column.heading), Text(text))
    _print(table)


def print_all(facts: BaseModel | Mapping[str, object]) -> None:
    """Print all fields of a model, or all items of a mapping, as aligned names and values."""
    items = facts.model_dump() if isinstance(facts, BaseModel) else facts
    print_facts(items, [(name, itemgetter(name)) for name in items])


def _columns(columns: Sequence[Column[Row]]) -> Iterator[_Shown[Row]]:
    for column in (columns,) if isinstance(columns, str) else columns:
        if not isinstance(column, str):
            heading = column[0].lstrip("-")
            yield _Shown(heading, column[1], len(column[0]) - len(heading))
            continue
        for text in column.split(", "):
            name = text.lstrip("-")
            heading, _, path = name.rpartition("=")
            value = partial(_value, path.split("."))
            yield _Shown(heading or name.replace("_", " "), value, len(text) - len(name), path.endswith("_id"))


def _value(path: Sequence[str], row: object) -> object:
    for name in path:
        row = None if row is None else getattr(row, name)
    return row


def _print(table: Table, *, width: int = 0) -> None:
    """Print a table on a terminal, at least as wide as given, or else as plain text of any width."""
    console = Console(highlight=False)
    if console.is_terminal:
        Console(width=max(width, console.width), highlight=False).print(table)
        return
    natural = Console(width=_WIDEST).measure(table).maximum
    console = Console(width=max(1, natural), highlight=False)
    with console.capture() as captured:
        console.print(table)
    for line in captured.get().splitlines():
        output.print_line(line.rstrip())
