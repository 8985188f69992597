"""Any number of values or rows in one statement, as arrays.

Each connection prepares a statement and keeps it. The text of `IN (...)` and of `VALUES (...), (...)` differs for
each number of values, so each would be prepared and kept by itself, and there may be at most 32,767 values.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

from sqlalchemy import (
    ARRAY,
    ColumnElement,
    TableValuedAlias,
    any_,
    bindparam,
    column,
    func,
    literal,
    select,
    tuple_,
)
from sqlalchemy.orm import InstrumentedAttribute

Column = ColumnElement[Any] | InstrumentedAttribute[Any]


def one_of(what: Column, values: Iterable[Any]) -> ColumnElement[bool]:
    """Return the condition that a column has one of these values."""
    return what == any_(literal(list(values), ARRAY(what.type)))


def one_of_rows(what: Sequence[Column], rows: Iterable[Sequence[Any]]) -> ColumnElement[bool]:
    """Return the condition that columns have the values of one of these rows."""
    given = list(rows)
    arrays = [literal([row[place] for row in given], ARRAY(it.type)) for place, it in enumerate(what)]
    return tuple_(*what).in_(select(*_table(what, arrays).c))


class Given:
    """A table `given` with these columns, whose rows are parameters of a statement that is built once."""

    def __init__(self, *columns: Column) -> None:
        # Other names than those of the columns, as those would be values to set.
        self._names = [f"all_{it.key}" for it in columns]
        arrays = [bindparam(name, type_=ARRAY(it.type)) for name, it in zip(self._names, columns, strict=True)]
        self.c = _table(columns, arrays).c

    def parameters(self, rows: Iterable[Sequence[Any]]) -> dict[str, list[Any]]:
        """Return the parameters for one or more rows."""
        return dict(zip(self._names, map(list, zip(*rows, strict=True)), strict=True))


def _table(columns: Sequence[Column], arrays: Sequence[ColumnElement[Any]]) -> TableValuedAlias:
    """Return arrays as the columns of a table `given`."""
    names = (column(str(it.key), it.type) for it in columns)
    return func.unnest(*arrays).table_valued(*names).render_derived(name="given")
