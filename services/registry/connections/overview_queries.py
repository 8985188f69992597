"""Queries over all devices and all layers, for what is shown of connection profiles."""

from __future__ import annotations

from collections.abc import Collection
from datetime import UTC, datetime
from typing import Any, Final, NamedTuple

from sqlalchemy import case, func, select
from sqlalchemy.ext.asyncio import AsyncSession

from services.registry.connection_rules import StoredConnection
from services.registry.connections import queries as connection_queries
from shared.database import device_refs
from shared.database.arrays import one_of
from shared.database.tables import (
    Claim,
    ConnectionLayer,
    ConnectionProfileRow,
    Device,
    DeviceConnection,
    DeviceModel,
)

_SOMETIME: Final = datetime.min.replace(tzinfo=UTC)


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
        case((one_of(Device.id, own), Device.id)),
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


async def suspects(session: AsyncSession) -> list[connection_queries.Reachable]:
    """Return the enabled devices that do not use their own profile, or have refused one."""
    other = DeviceConnection.in_use.is_distinct_from(DeviceConnection.first)
    query = connection_queries.reachable().where(Device.enabled, other | DeviceConnection.refused_id.is_not(None))
    return [connection_queries.read(row) for row in await session.execute(query.order_by(Device.id))]


async def profiles(session: AsyncSession, ids: Collection[str]) -> dict[str, dict[str, Any]]:
    """Return the documents of profiles that were given to devices, by id; missing ones are left out."""
    query = select(ConnectionProfileRow.id, ConnectionProfileRow.document)
    rows = await session.execute(query.where(one_of(ConnectionProfileRow.id, ids)))
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
