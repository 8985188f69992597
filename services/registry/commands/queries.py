"""Queries on commands."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from datetime import datetime
from typing import Any, Final, NamedTuple
from uuid import UUID

from sqlalchemy import bindparam, delete, func, insert, select, true
from sqlalchemy.ext.asyncio import AsyncSession
from sqlalchemy.orm import aliased

from shared.database import device_refs
from shared.database.tables import CommandRow, Device, DeviceModel
from shared.errors import NotFoundError
from shared.protocol import admin

REMEMBERED: Final = 32
"""How many commands a device remembers (docs/protocol.md), so that it executes none twice."""


class CommandTarget(NamedTuple):
    """A target of a command, and the commands that its model lists."""

    device_id: int
    key: str
    enabled: bool
    model: str
    commands: list[str]


_NEWEST: Final = aliased(
    CommandRow,
    select(CommandRow)
    .where(CommandRow.device_id == Device.id)
    .order_by(CommandRow.created_at.desc())
    .limit(REMEMBERED)
    .lateral(),
)
_COMMANDS: Final = device_refs.owned(CommandRow)
_WAITING: Final = (
    select(_NEWEST, DeviceModel.code, Device.key)
    .select_from(Device)
    .join(DeviceModel, DeviceModel.id == Device.model_id)
    .join(_NEWEST, true())
    .where(device_refs.AMONG, _NEWEST.answered_at.is_(None), _NEWEST.expires_at > bindparam("now"))
    .order_by(_NEWEST.created_at)
)


async def targets(session: AsyncSession, wanted: admin.CommandSend, *, limit: int) -> list[CommandTarget]:
    """Return up to `limit` targets of a command, locked against removal."""
    query = (
        select(Device.id, Device.key, Device.enabled, DeviceModel.code, DeviceModel.commands)
        .join(DeviceModel, DeviceModel.id == Device.model_id)
        .where(
            Device.lifecycle == "ACTIVE", device_refs.selected(wanted.device, tag=wanted.tag, model=wanted.model)
        )
        .order_by(Device.id)
        .limit(limit)
        .with_for_update(of=Device, read=True, key_share=True)
    )
    return [CommandTarget(*row) for row in await session.execute(query)]


async def add(session: AsyncSession, rows: list[dict[str, Any]]) -> None:
    """Store many commands at once."""
    await session.execute(insert(CommandRow), rows)


async def command(session: AsyncSession, command_id: UUID, client_id: str) -> CommandRow:
    """Return and lock a command of this device, or raise NotFoundError."""
    query = _COMMANDS.where(CommandRow.id == command_id, device_refs.named(client_id)).with_for_update(
        of=CommandRow
    )
    found = await device_refs.with_client_ids(session, query)
    if not found:
        raise NotFoundError(f"command_id: there is no command {command_id} of {client_id}")
    return found[0][0]


async def waiting(
    session: AsyncSession, client_ids: Sequence[str], *, now: datetime
) -> list[tuple[CommandRow, str]]:
    """Return the unanswered commands of devices that have not expired at `now` (UTC), oldest first.

    Only those that a device that has begun them still remembers.
    """
    rows = await session.execute(_WAITING, {"keys": device_refs.keys(client_ids), "now": now})
    return [(command, device_refs.client_id(code, key)) for command, code, key in rows]


async def batch(session: AsyncSession, wanted: admin.CommandShow) -> list[tuple[CommandRow, str]]:
    """Return up to `limit` commands of a batch after `after`, each with its device's client id."""
    query = _COMMANDS.where(CommandRow.batch_id == wanted.batch_id, CommandRow.device_id > wanted.after)
    return await device_refs.with_client_ids(session, query.order_by(CommandRow.device_id).limit(wanted.limit))


async def counts(session: AsyncSession, batch_id: UUID) -> Counter[tuple[bool | None, datetime]]:
    """Return the number of commands of a batch for each pair of `ok` and `expires_at`."""
    facts = (CommandRow.ok, CommandRow.expires_at)
    query = select(*facts, func.count()).where(CommandRow.batch_id == batch_id).group_by(*facts)
    return Counter({(ok, expires_at): count for ok, expires_at, count in await session.execute(query)})


async def newest(session: AsyncSession, wanted: admin.CommandList) -> list[tuple[CommandRow, str]]:
    """Return up to `limit` commands, newest first, each with its device's client id."""
    query = _COMMANDS.order_by(CommandRow.created_at.desc(), CommandRow.device_id).limit(wanted.limit)
    if wanted.device is not None:
        query = query.where(device_refs.named(wanted.device))
    return await device_refs.with_client_ids(session, query)


async def forget(session: AsyncSession, *, before: datetime) -> None:
    """Delete the commands that were sent before this time (UTC)."""
    await session.execute(delete(CommandRow).where(CommandRow.created_at < before))
