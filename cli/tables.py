"""Tables for people: of many rows, or of the facts of one object, each described by its columns.

A column is the name of an attribute, which is the heading too; a heading and the path of an attribute, such as
`by=author` or `failed=counts.failed`; or a heading and a function of the row. A path through None is None.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
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
    lines = [[_text(row, column) for column in columns] for row in rows]
    if none is not None and not lines:
        output.print_note(none)
        return
    table = Table(box=None, pad_edge=False, show_edge=False, padding=(0, 2, 0, 0))
    for number, column in enumerate(columns):
        table.add_column(Text(_heading(column).upper()), overflow="fold", no_wrap=number == 0)
    for line in lines:
        table.add_row(*line)
    _print(table)


def print_facts(thing: Row, columns: Sequence[Column[Row]]) -> None:
    """Print one object as aligned names and values."""
    table = Table(box=None, pad_edge=False, show_edge=False, show_header=False, padding=(0, 2, 0, 0))
    table.add_column(no_wrap=True)
    table.add_column(overflow="fold")
    for column in columns:
        table.add_row(Text(_heading(column)), _text(thing, column))
    _print(table)


def print_all(facts: BaseModel | Mapping[str, object]) -> None:
    """Print all fields of a model, or all items of a mapping, as aligned names and values."""
    items = facts.model_dump() if isinstance(facts, BaseModel) else facts
    print_facts(items, [(name, itemgetter(name)) for name in items])


def _heading(column: Column[Row]) -> str:
    return column.partition("=")[0].replace("_", " ") if isinstance(column, str) else column[0]


def _text(row: Row, column: Column[Row]) -> Text:
    if not isinstance(column, str):
        return Text(output.cell(column[1](row)))
    value: object = row
    for name in column.rpartition("=")[2].split("."):
        value = None if value is None else getattr(value, name)
    return Text(output.cell(value))


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
