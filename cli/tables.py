"""Tables for people: of many rows, or of the facts of one object, each described by its columns.

A column is the name of an attribute, which is the heading too; a heading and the path of an attribute, such as
`by=author` or `failed=counts.failed`; or a heading and a function of the row. Names and paths can share a string,
separated by commas. A path through None is None.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from functools import partial
from operator import itemgetter
from typing import Final, TypeAlias, TypeVar

from pydantic import BaseModel
from rich.console import Console
from rich.table import Table
from rich.text import Text

from cli import output

_WIDEST: Final = 1_000_000

Row = TypeVar("Row")
Column: TypeAlias = str | tuple[str, Callable[[Row], object]]


def print_table(rows: Iterable[Row], columns: Sequence[Column[Row]], *, none: str | None = None) -> None:
    """Print aligned rows below a heading, or the note `none` if there are none; a pipe gets plain, unwrapped text.

    The first column identifies the row and is never broken, so that it can be copied.
    """
    cells = list(_cells(columns))
    lines = [[Text(output.cell(value(row))) for _, value in cells] for row in rows]
    if none is not None and not lines:
        output.print_note(none)
        return
    table = Table(box=None, pad_edge=False, show_edge=False, padding=(0, 2, 0, 0))
    for number, (heading, _) in enumerate(cells):
        table.add_column(Text(heading.upper()), overflow="fold", no_wrap=number == 0)
    for line in lines:
        table.add_row(*line)
    _print(table)


def print_facts(thing: Row, columns: Sequence[Column[Row]]) -> None:
    """Print one object as aligned names and values."""
    table = Table(box=None, pad_edge=False, show_edge=False, show_header=False, padding=(0, 2, 0, 0))
    table.add_column(no_wrap=True)
    table.add_column(overflow="fold")
    for heading, value in _cells(columns):
        table.add_row(Text(heading), Text(output.cell(value(thing))))
    _print(table)


def print_all(facts: BaseModel | Mapping[str, object]) -> None:
    """Print all fields of a model, or all items of a mapping, as aligned names and values."""
    items = facts.model_dump() if isinstance(facts, BaseModel) else facts
    print_facts(items, [(name, itemgetter(name)) for name in items])


def _cells(columns: Sequence[Column[Row]]) -> Iterator[tuple[str, Callable[[Row], object]]]:
    """Yield the heading of each column, and the function for its values."""
    for column in (columns,) if isinstance(columns, str) else columns:
        if not isinstance(column, str):
            yield column
            continue
        for name in column.split(", "):
            heading, _, path = name.rpartition("=")
            yield heading or name.replace("_", " "), partial(_value, path.split("."))


def _value(path: Sequence[str], row: object) -> object:
    for name in path:
        row = None if row is None else getattr(row, name)
    return row


def _print(table: Table) -> None:
    console = Console(highlight=False)
    if console.is_terminal:
        console.print(table)
        return
    natural = Console(width=_WIDEST).measure(table).maximum
    console = Console(width=max(1, natural), highlight=False)
    with console.capture() as captured:
        console.print(table)
    for line in captured.get().splitlines():
        output.print_line(line.rstrip())
