"""Queries on what is wrong with boards: flaws of their messages, and clashes."""

from __future__ import annotations

from datetime import datetime
from typing import NamedTuple

from sqlalchemy import func, select
from sqlalchemy.ext.asyncio import AsyncSession

from services.registry import queries
from shared.database import device_refs
from shared.database.tables import Device, DeviceFlaw, DeviceModel, Presence


class CommonFlaw(NamedTuple):
    """A field that is left out of devices' messages, the first of the devices, and their number."""

    topic: str
    field: str
    rule: str
    client_id: str
    devices: int


async def of_device(session: AsyncSession, device_id: int) -> list[DeviceFlaw]:
    """Return the flaws of a device's messages."""
    query = select(DeviceFlaw).where(DeviceFlaw.device_id == device_id)
    return list(await session.scalars(query.order_by(DeviceFlaw.topic, DeviceFlaw.field)))


async def clashing(session: AsyncSession, *, since: datetime) -> list[str]:
    """Return the client ids that two boards have used since then."""
    rows = await session.execute(
        queries.active(select(DeviceModel.code, Device.key)).where(Presence.clashed_at > since)
    )
    return [device_refs.client_id(code, key) for code, key in rows]


async def common(session: AsyncSession) -> list[CommonFlaw]:
    """Return all flaws, each once for all devices that have it: a whole fleet may have the same firmware."""
    name = func.min(func.concat(device_refs.PREFIX, DeviceModel.code, "-", Device.key))
    field = (DeviceFlaw.topic, DeviceFlaw.field)
    rows = await session.execute(
        queries.active(select(*field, func.min(DeviceFlaw.rule), name, func.count()))
        .join(DeviceFlaw, DeviceFlaw.device_id == Device.id)
        .group_by(*field)
        .order_by(*field)
    )
    return [CommonFlaw(*row) for row in rows]
