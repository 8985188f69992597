"""Queries on connection profiles: layers, profiles, and what devices have."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from datetime import UTC, datetime
from typing import Any, Final, NamedTuple

from sqlalchemy import ColumnElement, Select, case, func, null, select, true, update
from sqlalchemy.dialects.postgresql import insert
from sqlalchemy.ext.asyncio import AsyncSession

from services.registry import queries
from services.registry.connection_rules import ConnectionLayers, Scope, StoredConnection, WantedProfile
from shared.database import device_refs
from shared.database.tables import (
    Claim,
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
_SOMETIME: Final = datetime.min.replace(tzinfo=UTC)
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
    query = select(ConnectionLayer).distinct(*_SCOPE).order_by(*_SCOPE, ConnectionLayer.number.desc())
    rows = list(await session.scalars(query))
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


async def lock_reachable(session: AsyncSession, device_id: int) -> Reachable | None:
    """Return a device with the lock of its connection; None if it is gone."""
    # The device first, as others do: the new row's foreign key would lock it last.
    device = select(Device.id).where(Device.id == device_id).with_for_update(read=True, key_share=True)
    await session.execute(insert(DeviceConnection).from_select(["device_id"], device).on_conflict_do_nothing())
    query = _reachable().where(Device.id == device_id).with_for_update(of=DeviceConnection)
    row = (await session.execute(query)).one_or_none()
    return None if row is None else _read(row)


async def online(session: AsyncSession, *, after: int, limit: int) -> list[Reachable]:
    """Return up to `limit` online devices that report their profiles, by id."""
    query = (
        _reachable()
        .join(Presence, Presence.device_id == Device.id)
        .where(Device.id > after, Device.enabled, Presence.online, DeviceConnection.reported_at.is_not(None))
        .order_by(Device.id)
        .limit(limit)
    )
    return [_read(row) for row in await session.execute(query)]


class AlikeDevices(NamedTuple):
    """A number of devices that agree in all of these; `device_id` is that of a device with a layer of its own."""

    device_id: int | None
    tags: list[str]
    first: str | None
    fallback: str | None
    in_use: str | None
    refused_id: str | None
    sent_id: str | None
    has_package: bool
    is_reported: bool
    devices: int

    @property
    def stored(self) -> StoredConnection:
        """What they report; of the time it is only known whether there is one."""
        return StoredConnection(
            first=self.first,
            fallback=self.fallback,
            in_use=self.in_use,
            refused_id=self.refused_id,
            reported_at=_SOMETIME if self.is_reported else None,
            sent_id=self.sent_id,
        )


async def alike(session: AsyncSession, own: Collection[int]) -> list[AlikeDevices]:
    """Return all active devices in groups; `own` are the ids of those that have a layer of their own."""
    columns = (
        case((Device.id.in_(own), Device.id)),
        Device.tags,
        DeviceConnection.first,
        DeviceConnection.fallback,
        DeviceConnection.in_use,
        DeviceConnection.refused_id,
        DeviceConnection.sent_id,
        DeviceConnection.device_id.is_not(None),
        DeviceConnection.reported_at.is_not(None),
    )
    inner = (
        select(*(column.label(f"c{number}") for number, column in enumerate(columns)))
        .select_from(Device)
        .outerjoin(DeviceConnection, DeviceConnection.device_id == Device.id)
        .where(Device.lifecycle == "ACTIVE")
        .subquery()
    )
    rows = await session.execute(select(*inner.c, func.count()).group_by(*inner.c))
    return [AlikeDevices._make(row) for row in rows]


async def device(session: AsyncSession, device_id: int) -> Reachable:
    """Return what is stored of an active device, without a lock."""
    query = _reachable(outer=True).where(Device.id == device_id)
    return _read((await session.execute(query)).one())


async def suspects(session: AsyncSession) -> list[Reachable]:
    """Return the enabled devices that do not use their own profile, or have refused one."""
    other = DeviceConnection.in_use.is_distinct_from(DeviceConnection.first)
    query = _reachable().where(Device.enabled, other | DeviceConnection.refused_id.is_not(None))
    return [_read(row) for row in await session.execute(query.order_by(Device.id))]


async def profiles(session: AsyncSession, ids: Collection[str]) -> dict[str, dict[str, Any]]:
    """Return the documents of profiles that were given to devices, by id; missing ones are left out."""
    query = select(ConnectionProfileRow.id, ConnectionProfileRow.document)
    rows = await session.execute(query.where(ConnectionProfileRow.id.in_(ids)))
    return {row[0]: row[1] for row in rows}


async def live_claims(session: AsyncSession, *, now: datetime) -> dict[str, str]:
    """Return the connection profile of each claim that is neither revoked nor expired, by the claim's id."""
    query = select(Claim.id, Claim.connection_id).where(Claim.revoked_at.is_(None), Claim.expires_at > now)
    return {row[0]: row[1] for row in await session.execute(query) if row[1] is not None}


async def history(
    session: AsyncSession, *, before: int | None, limit: int
) -> list[tuple[ConnectionLayer, str | None]]:
    """Return up to `limit` layers below `before`, newest first, each with the client id of its device."""
    query = (
        select(ConnectionLayer, DeviceModel.code, Device.key)
        .outerjoin(Device, Device.id == ConnectionLayer.device_id)
        .outerjoin(DeviceModel, DeviceModel.id == Device.model_id)
        .order_by(ConnectionLayer.number.desc())
        .limit(limit)
    )
    if before is not None:
        query = query.where(ConnectionLayer.number < before)
    rows = await session.execute(query)
    return [(layer, device_refs.client_id(code, key) if key else None) for layer, code, key in rows]


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


def _reachable(*, outer: bool = False) -> Select[Any]:
    return (
        select(Device.id, DeviceModel.code, Device.key, Device.tags, Device.public_key, *_STORED)
        .select_from(Device)
        .join(DeviceModel, DeviceModel.id == Device.model_id)
        .join(DeviceConnection, DeviceConnection.device_id == Device.id, isouter=outer)
        .where(Device.lifecycle == "ACTIVE")
    )


def _read(row: Any) -> Reachable:  # noqa: ANN401 - a row of many columns
    device_id, code, key, tags, public_key, *stored = row
    return Reachable(device_id, device_refs.client_id(code, key), tags, public_key, StoredConnection(*stored))
