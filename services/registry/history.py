"""Events that have happened: kept for a while, and listed for admins."""

from __future__ import annotations

from datetime import datetime, timedelta
from typing import Final

from sqlalchemy import delete, func, select
from sqlalchemy.ext.asyncio import AsyncSession

from services.registry import queries
from shared.database import device_refs
from shared.database.engine import Database
from shared.database.tables import EventRow
from shared.protocol import admin
from shared.server.rpc import RequestContext, fitting

KEPT: Final = 1000
"""Events that are kept of a device that emits many, as one whose connection is bad does."""
MANY: Final = 10
"""More events than these within the window are many."""
_WINDOW: Final = timedelta(hours=1)


async def list_newest(context: RequestContext, request: admin.EventList) -> admin.Events:
    """Return a page of the matching events, as many as fit into one message."""
    rows = await _newest(context.session, request)
    views = fitting(_view(row) for row in rows)
    is_last = len(rows) < request.limit and len(views) == len(rows)
    return admin.Events(events=views, next=None if is_last else rows[len(views) - 1].id)


async def forget(database: Database, *, before: datetime, now: datetime) -> None:
    """Delete the events from before a time (UTC), and of devices that had many lately all but the newest."""
    lately = (
        select(EventRow.client_id)
        .where(EventRow.at >= now - _WINDOW, EventRow.client_id.is_not(None))
        .group_by(EventRow.client_id)
        .having(func.count() > MANY)
        .subquery()
    )
    oldest = (
        select(EventRow.id)
        .where(EventRow.client_id == lately.c.client_id)
        .order_by(EventRow.id.desc())
        .offset(KEPT)
        .limit(1)
        .lateral()
    )
    async with database.transaction() as session:
        await session.execute(delete(EventRow).where(EventRow.at < before))
        too_old = select(lately.c.client_id, oldest.c.id).cte("too_old")
        await session.execute(
            delete(EventRow).where(EventRow.client_id == too_old.c.client_id, EventRow.id <= too_old.c.id)
        )


async def _newest(session: AsyncSession, wanted: admin.EventList) -> list[EventRow]:
    query = select(EventRow).order_by(EventRow.id.desc()).limit(wanted.limit)
    if wanted.device is not None:
        device, model, _ = await queries.device(session, wanted.device)
        query = query.where(EventRow.client_id == device_refs.client_id(model.code, device.key))
    if wanted.noun is not None:
        query = query.where(func.split_part(EventRow.name, "/", 1) == wanted.noun)
    if wanted.before is not None:
        query = query.where(EventRow.id < wanted.before)
    return list(await session.scalars(query))


def _view(row: EventRow) -> admin.EventView:
    noun, _, verb = row.name.partition("/")
    return admin.EventView(
        event_id=row.event_id, at=row.at, noun=noun, verb=verb, client_id=row.client_id, data=row.data
    )
