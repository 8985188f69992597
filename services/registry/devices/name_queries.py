"""Queries for devices as people name them."""

from __future__ import annotations

import re
from itertools import groupby
from typing import Final

from sqlalchemy import case, func, literal, select
from sqlalchemy.ext.asyncio import AsyncSession

from services.registry import queries
from shared.database import device_refs
from shared.database.tables import ClaimRequestRow, Device, DeviceModel

_BETWEEN_DIGITS: Final = re.compile(r"(?<=[0-9A-Fa-f]{2})[:.-](?=[0-9A-Fa-f]{2})")


async def named(session: AsyncSession, text: str, *, limit: int) -> list[tuple[str, str]]:
    """Return client id and name of up to `limit` devices, oldest first, that this names in the same way.

    Client id or key, uid, name, name in other capitals, and beginning of client id or key come in this order.
    """
    lower = text.lower()
    client_id = func.concat(device_refs.PREFIX, DeviceModel.code, "-", Device.key)
    of_machine = select(ClaimRequestRow.device_id).where(
        ClaimRequestRow.uid == _BETWEEN_DIGITS.sub("", lower), ClaimRequestRow.device_id.is_not(None)
    )
    way = case(
        ((Device.key == lower) | (client_id == lower), 0),
        (Device.id.in_(of_machine), 1),
        (Device.name == text, 2),
        (func.lower(Device.name) == func.lower(literal(text)), 3),
        (func.starts_with(Device.key, lower) | func.starts_with(client_id, lower), 4),
    )
    found = queries.active(select(way, DeviceModel.code, Device.key, Device.name)).where(way.is_not(None))
    rows = await session.execute(found.order_by(way, Device.id).limit(limit))
    for _, same in groupby(rows, key=lambda row: row[0]):
        return [(device_refs.client_id(code, key), name) for _, code, key, name in same]
    return []
