"""Tables for people: of many things, or of the facts of one."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Final

from pydantic import BaseModel
from rich.console import Console
from rich.table import Table
from rich.text import Text

from cli import output

_WIDEST: Final = 1_000_000


def print_table(columns: Sequence[str], rows: Iterable[Sequence[object]]) -> None:
    """Print aligned columns with a heading; a pipe gets full width and nothing but text.

    The first column names the thing and is never broken: it is there to be copied.
    """
    table = Table(box=None, pad_edge=False, show_edge=False, padding=(0, 2, 0, 0))
    for number, column in enumerate(columns):
        table.add_column(Text(column), overflow="fold", no_wrap=number == 0)
    for row in rows:
        table.add_row(*(Text(output.cell(value)) for value in row))
    _print(table)


def print_facts(facts: dict[str, object]) -> None:
    """Print one thing as aligned names and values."""
    table = Table(box=None, pad_edge=False, show_edge=False, show_header=False, padding=(0, 2, 0, 0))
    table.add_column(no_wrap=True)
    table.add_column(overflow="fold")
    for name, value in facts.items():
        table.add_row(Text(name), Text(output.cell(value)))
    _print(table)


def print_result(result: BaseModel) -> None:
    """Print a result's own fields."""
    print_facts(result.model_dump())


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
