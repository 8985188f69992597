"""The query that counts all devices, by state."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime

from sqlalchemy import func, literal_column, select
from sqlalchemy.ext.asyncio import AsyncSession

from services.registry import health, queries
from services.registry.health import HealthThresholds
from shared.database import presences
from shared.database.tables import Device, DeviceModel, Presence
from shared.protocol import admin


@dataclass(frozen=True, slots=True)
class Group:
    """A number of devices that agree in all of these fields."""

    model: str
    version: str | None
    enabled: bool
    presence: admin.PresenceState
    drifts: bool
    has_key: bool
    health: admin.Health
    reasons: list[admin.HealthReasonName]
    rotation_state: admin.RotationState
    devices: int


async def groups(session: AsyncSession, *, now: datetime, thresholds: HealthThresholds) -> list[Group]:
    """Return all devices in groups; their number does not depend on the number of devices."""
    states = health.states(now, thresholds)
    alike = (
        DeviceModel.code,
        Presence.firmware_version,
        Device.enabled,
        presences.STATE,
        queries.drifts(),
        Device.public_key.is_not(None),
        states.c.health,
        states.c.reasons,
        Device.rotation_state,
    )
    # By the columns' positions: PostgreSQL treats a repeated parameter as a different expression.
    places = [str(number) for number in range(1, len(alike) + 1)]
    query = queries.active(select(*alike, func.count())).join(states, states.c.device_id == Device.id)
    query = query.group_by(*map(literal_column, places))
    return [Group(*row) for row in await session.execute(query)]
