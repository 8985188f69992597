"""The query that counts all devices, by how they stand."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime

from sqlalchemy import case, func, literal_column, or_, select
from sqlalchemy.ext.asyncio import AsyncSession

from services.registry import queries, rules
from shared.database.tables import Device, DeviceModel, Presence
from shared.protocol import admin


@dataclass(frozen=True, slots=True)
class Group:
    """So many devices are alike in all of this."""

    model: str
    version: str | None
    enabled: bool
    online: bool
    drifts: bool
    has_key: bool
    health: admin.Health
    rotation_state: admin.RotationState
    devices: int


async def groups(session: AsyncSession, *, now: datetime, thresholds: rules.Thresholds) -> list[Group]:
    """Return all devices in groups: as many as there are ways to differ, however many devices there are."""
    seen = Presence.last_seen_at
    health = case(
        (Presence.online, "healthy"),
        (or_(seen.is_(None), seen < now - thresholds.inactive), "inactive"),
        (seen < now - thresholds.critical, "critical"),
        (seen < now - thresholds.warning, "warning"),
        else_="healthy",
    )
    alike = (
        DeviceModel.code,
        Presence.firmware_version,
        Device.enabled,
        Presence.online,
        queries.drifts(),
        Device.public_key.is_not(None),
        health,
        Device.rotation_state,
    )
    # By the columns' places: the same parameter twice is not the same expression to the database.
    places = [str(number) for number in range(1, len(alike) + 1)]
    query = queries.active(select(*alike, func.count())).group_by(*map(literal_column, places))
    return [Group(*row) for row in await session.execute(query)]
