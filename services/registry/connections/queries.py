"""Queries on connection profiles: layers, profiles, and what devices have."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime
from typing import Any, Final, NamedTuple

from sqlalchemy import ColumnElement, Select, func, null, select, true, update
from sqlalchemy.dialects.postgresql import distinct_on, insert
from sqlalchemy.ext.asyncio import AsyncSession

from services.registry import queries
from services.registry.connection_rules import ConnectionLayers, Scope, StoredConnection, WantedProfile
from shared.database import device_refs
from shared.database.tables import (
    ConnectionLayer,
    ConnectionProfileRow,
    Device,
    DeviceConnection,
    DeviceModel,
    Presence,
)
from shared.errors import NotFoundError
from shared.protocol import admin

_STORED: Final = tuple(getattr(DeviceConnection, name) for name in StoredConnection._fields)
_SCOPE: Final = (ConnectionLayer.scope, ConnectionLayer.tag, ConnectionLayer.device_id)
# Built once: building a statement takes as long as executing it.
_NEWEST: Final = select(ConnectionLayer).ext(distinct_on(*_SCOPE)).order_by(*_SCOPE, ConnectionLayer.number.desc())


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


async def scope_of(session: AsyncSession, target: admin.ConnectionTarget) -> tuple[Scope, str | None]:
    """Return the scope that a request names, and the client id of its device; raise NotFoundError for none."""
    if target.device is not None:
        device, model, _ = await queries.device(session, target.device)
        return Scope("device", device_id=device.id), device_refs.client_id(model.code, device.key)
    return (Scope("all") if target.tag is None else Scope("tag", tag=target.tag)), None


async def client_id(session: AsyncSession, device_id: int | None) -> str | None:
    """Return the client id of a layer's device."""
    if device_id is None:
        return None
    device = await session.get_one(Device, device_id)
    model = await session.get_one(DeviceModel, device.model_id)
    return device_refs.client_id(model.code, device.key)


async def layer(session: AsyncSession, number: int) -> ConnectionLayer:
    """Return a layer by its number, or raise NotFoundError."""
    found = await session.get(ConnectionLayer, number)
    if found is None:
        raise NotFoundError(f"number: there is no layer {number} in the history", number=number)
    return found


async def in_force(session: AsyncSession, base: Mapping[str, Any]) -> ConnectionLayers:
    """Return the layers in force, above `base` if the settings have not been recorded yet."""
    rows = list(await session.scalars(_NEWEST))
    revision = max((it.number for it in rows), default=None)
    return ConnectionLayers([it for it in rows if not it.removed], base, revision)


async def intern(session: AsyncSession, wanted: WantedProfile) -> None:
    """Store a profile that is about to be given to a device, unless it is stored.

    Must be called after the device's connection is locked: others that store the same profile wait.
    """
    values = {"id": wanted.connection_id, "document": wanted.document}
    await session.execute(insert(ConnectionProfileRow).values(values).on_conflict_do_nothing())


async def note_package(session: AsyncSession, device_id: int, wanted: WantedProfile) -> None:
    """Store that a device's package has a profile; a device that reports its own profiles knows better."""
    has = {"first": wanted.connection_id, "in_use": wanted.connection_id}
    await session.execute(
        insert(DeviceConnection)
        .values(device_id=device_id, **has)
        .on_conflict_do_update(
            index_elements=[DeviceConnection.device_id], set_=has, where=DeviceConnection.reported_at.is_(None)
        )
    )
    await intern(session, wanted)


async def forget(session: AsyncSession, device_id: int) -> None:
    """Forget what a device reports of its profiles, as its next package may be for another board."""
    nothing = dict.fromkeys(StoredConnection._fields, null())
    await session.execute(update(DeviceConnection).where(DeviceConnection.device_id == device_id).values(nothing))


async def lock_reachable(session: AsyncSession, device_id: int) -> Reachable | None:
    """Return a device with the lock of its connection; None if it is gone."""
    # The device first, as others do: the new row's foreign key would lock it last.
    device = select(Device.id).where(Device.id == device_id).with_for_update(read=True, key_share=True)
    await session.execute(insert(DeviceConnection).from_select(["device_id"], device).on_conflict_do_nothing())
    query = reachable().where(Device.id == device_id).with_for_update(of=DeviceConnection)
    row = (await session.execute(query)).one_or_none()
    return None if row is None else read(row)


async def online(session: AsyncSession, *, after: int, limit: int) -> list[Reachable]:
    """Return up to `limit` online devices that report their profiles, by id."""
    query = (
        reachable()
        .join(Presence, Presence.device_id == Device.id)
        .where(Device.id > after, Device.enabled, Presence.online, DeviceConnection.reported_at.is_not(None))
        .order_by(Device.id)
        .limit(limit)
    )
    return [read(row) for row in await session.execute(query)]


async def device(session: AsyncSession, device_id: int) -> Reachable:
    """Return what is stored of an active device, without a lock."""
    query = _REACHABLE_OR_NOT.where(Device.id == device_id)
    return read((await session.execute(query)).one())


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


async def allow_resend(session: AsyncSession, scope: Scope) -> int:
    """Let the devices of a layer be sent the same profile again at once; return how many report profiles."""
    condition: ColumnElement[bool] = true()
    if scope.tag is not None:
        condition = Device.tags.contains([scope.tag])
    if scope.device_id is not None:
        condition = Device.id == scope.device_id
    found = await session.scalars(
        update(DeviceConnection)
        .where(DeviceConnection.device_id == Device.id, Device.lifecycle == "ACTIVE", condition)
        .where(DeviceConnection.reported_at.is_not(None))
        .values(sent_at=null())
        .returning(DeviceConnection.device_id)
    )
    return len(found.all())


def reachable(*, outer: bool = False) -> Select[Any]:
    """Return a query over active devices with their connections, as input of `read`; `outer`: also without one."""
    return (
        select(Device.id, DeviceModel.code, Device.key, Device.tags, Device.public_key, *_STORED)
        .select_from(Device)
        .join(DeviceModel, DeviceModel.id == Device.model_id)
        .join(DeviceConnection, DeviceConnection.device_id == Device.id, isouter=outer)
        .where(Device.lifecycle == "ACTIVE")
    )


_REACHABLE_OR_NOT: Final = reachable(outer=True)


def read(row: Any) -> Reachable:  # noqa: ANN401 - a row of many columns
    """Return a row of the query `reachable`."""
    device_id, code, key, tags, public_key, *stored = row
    return Reachable(device_id, device_refs.client_id(code, key), tags, public_key, StoredConnection(*stored))
