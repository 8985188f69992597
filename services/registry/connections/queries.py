"""Queries on connection profiles: layers, profiles, and what devices have."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from datetime import datetime
from typing import Any, Final, NamedTuple

from sqlalchemy import Select, func, null, select, update
from sqlalchemy.dialects.postgresql import insert
from sqlalchemy.ext.asyncio import AsyncSession

from services.registry.batch_queries import STORED
from services.registry.connection_rules import ConnectionLayers, StoredConnection, WantedProfile
from shared.database import device_refs
from shared.database.tables import (
    ConnectionLayer,
    ConnectionProfileRow,
    Device,
    DeviceConnection,
    DeviceModel,
    Presence,
)

_SCOPE: Final = (ConnectionLayer.scope, ConnectionLayer.tag, ConnectionLayer.device_id)


class Reachable(NamedTuple):
    """A device that can be sent a connection profile."""

    device_id: int
    client_id: str
    tags: list[str]
    public_key: str | None
    stored: StoredConnection


async def lock(session: AsyncSession) -> None:
    """Lock the layers against other changes until the transaction ends: their numbers follow the commits."""
    await session.execute(select(func.pg_advisory_xact_lock(func.hashtext("mdm:connection_layers"))))


async def in_force(session: AsyncSession, base: Mapping[str, Any]) -> ConnectionLayers:
    """Return the layers in force, above `base` if the settings have not been recorded yet."""
    query = select(ConnectionLayer).distinct(*_SCOPE).order_by(*_SCOPE, ConnectionLayer.number.desc())
    rows = list(await session.scalars(query))
    revision = max((it.number for it in rows), default=None)
    return ConnectionLayers([it for it in rows if not it.removed], base, revision)


async def intern(session: AsyncSession, wanted: WantedProfile) -> None:
    """Store a profile that is about to be given to a device, unless it is stored."""
    values = {"id": wanted.connection_id, "document": wanted.document}
    await session.execute(insert(ConnectionProfileRow).values(values).on_conflict_do_nothing())


async def note_package(session: AsyncSession, device_id: int, wanted: WantedProfile) -> None:
    """Store that a device's package has a profile; a device that reports its own profiles knows better."""
    await intern(session, wanted)
    has = {"first": wanted.connection_id, "in_use": wanted.connection_id}
    await session.execute(
        insert(DeviceConnection)
        .values(device_id=device_id, **has)
        .on_conflict_do_update(
            index_elements=[DeviceConnection.device_id], set_=has, where=DeviceConnection.reported_at.is_(None)
        )
    )


async def lock_reachable(session: AsyncSession, device_id: int) -> Reachable | None:
    """Return a device with the lock of its connection; None if it is gone."""
    await session.execute(
        insert(DeviceConnection)
        .from_select(["device_id"], select(Device.id).where(Device.id == device_id))
        .on_conflict_do_nothing()
    )
    query = _reachable().where(Device.id == device_id).with_for_update(of=DeviceConnection)
    row = (await session.execute(query)).one_or_none()
    return None if row is None else _read(row)


async def online(session: AsyncSession, *, after: int, limit: int) -> list[Reachable]:
    """Return up to `limit` online devices that report their profiles, by id."""
    query = (
        _reachable()
        .join(Presence, Presence.device_id == Device.id)
        .where(Device.id > after, Presence.online, DeviceConnection.reported_at.is_not(None))
        .order_by(Device.id)
        .limit(limit)
    )
    return [_read(row) for row in await session.execute(query)]


async def store(session: AsyncSession, device_id: int, stored: StoredConnection) -> None:
    """Store a device's connection, whose row is locked."""
    values = {name: null() if value is None else value for name, value in stored._asdict().items()}
    await session.execute(update(DeviceConnection).where(DeviceConnection.device_id == device_id).values(values))


async def mark_sent(session: AsyncSession, device_id: int, connection_id: str, at: datetime) -> None:
    """Store which profile was sent to a device last, and when."""
    await session.execute(
        update(DeviceConnection)
        .where(DeviceConnection.device_id == device_id)
        .values(sent_id=connection_id, sent_at=at)
    )


async def allow_resend(session: AsyncSession, devices: Iterable[int]) -> None:
    """Let devices be sent the same profile again at once."""
    await session.execute(
        update(DeviceConnection).where(DeviceConnection.device_id.in_(devices)).values(sent_at=null())
    )


def _reachable() -> Select[Any]:
    return (
        select(Device.id, DeviceModel.code, Device.key, Device.tags, Device.public_key, *STORED)
        .select_from(Device)
        .join(DeviceModel, DeviceModel.id == Device.model_id)
        .join(DeviceConnection, DeviceConnection.device_id == Device.id)
        .where(Device.lifecycle == "ACTIVE", Device.enabled)
    )


def _read(row: Any) -> Reachable:  # noqa: ANN401 - a row of many columns
    device_id, code, key, tags, public_key, *stored = row
    return Reachable(device_id, device_refs.client_id(code, key), tags, public_key, StoredConnection(*stored))
