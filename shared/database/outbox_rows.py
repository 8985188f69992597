"""What a transaction puts into the outbox and among the events: kept in its session, and written at its end."""

from __future__ import annotations

from datetime import datetime
from typing import Any, Final, NamedTuple, cast
from uuid import UUID

from sqlalchemy import Table, insert, select
from sqlalchemy.ext.asyncio import AsyncSession

from shared.database.arrays import Given
from shared.database.tables import Base, EventRow, OutboxMessage


class NewMessage(NamedTuple):
    """A row of OutboxMessage."""

    service: str
    topic: str
    payload: bytes
    qos: int
    retain: bool
    sealed: bool
    expires_at: datetime | None


class NewEvent(NamedTuple):
    """A row of EventRow."""

    event_id: UUID
    at: datetime
    name: str
    client_id: str | None
    data: dict[str, Any]


class _Kind:
    """How rows of a kind are written; built once, as building a statement takes as long as executing it."""

    def __init__(self, row: type[NewMessage | NewEvent], table: type[Base]) -> None:
        self.row = row
        self.given = Given(*(getattr(table, name) for name in row._fields))
        self.insert = insert(cast("Table", table.__table__)).from_select(row._fields, select(*self.given.c))


_KINDS: Final = (_Kind(NewMessage, OutboxMessage), _Kind(NewEvent, EventRow))


def add(session: AsyncSession, row: NewMessage | NewEvent) -> None:
    """Keep a row until the end of the transaction."""
    session.info.setdefault(type(row), []).append(row)


async def write(session: AsyncSession) -> bool:
    """Write all rows, in their order, by one statement for each table; return whether there are messages."""
    for kind in _KINDS:
        if kind.row in session.info:
            await session.execute(kind.insert, kind.given.parameters(session.info[kind.row]))
    return NewMessage in session.info
