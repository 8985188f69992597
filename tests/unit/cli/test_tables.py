"""Checks the attributes that columns name in strings, which mypy does not check."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

from pydantic import BaseModel

import cli
from backup import make, restore
from shared.protocol import admin

PRINTERS = {"show_table", "show_facts", "print_table", "print_facts"}


def columns(file: Path) -> Iterator[str]:
    """Yield the columns of a file's tables that are strings."""
    for call in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
        if isinstance(call, ast.Call) and isinstance(call.func, ast.Attribute) and call.func.attr in PRINTERS:
            for given in call.args[1:]:
                yield from strings(given)


def strings(given: ast.expr) -> Iterator[str]:
    match given:
        case ast.Tuple([ast.Constant() | ast.JoinedStr(), ast.Lambda() | ast.Name()]):
            return
        case ast.Tuple(elements):
            for element in elements:
                yield from strings(element.value if isinstance(element, ast.Starred) else element)
        case ast.Constant(str(text)):
            yield from text.split(", ")


def fields(*models: type[BaseModel]) -> set[str]:
    return {name for model in models for name in model.model_fields}


FIELDS = fields(
    *(it for it in vars(admin).values() if isinstance(it, type) and issubclass(it, BaseModel)),
    *(make.Made, restore.Restored),
)


def test_a_column_is_a_field_of_a_result() -> None:
    files = sorted(Path(cli.__path__[0]).rglob("*.py"))
    found = [(file.name, column) for file in files for column in columns(file)]
    assert len(found) > 100
    assert [it for it in found if not set(it[1].lstrip("-").rpartition("=")[2].split(".")) <= FIELDS] == []
