"""The query that counts all devices, by state."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Final, get_args

from sqlalchemy import ColumnElement, SQLColumnExpression, func, literal_column, not_, select
from sqlalchemy.ext.asyncio import AsyncSession

from services.registry import health, queries
from services.registry.health import HealthThresholds
from shared.database import presences
from shared.database.tables import Device, DeviceModel, Presence
from shared.protocol import admin

_HEALTHS: Final[tuple[admin.Health, ...]] = get_args(admin.Health)
_REASONS: Final[tuple[admin.HealthReasonName, ...]] = get_args(admin.HealthReasonName)
_ROTATIONS: Final[tuple[admin.RotationState, ...]] = get_args(admin.RotationState)


@dataclass(frozen=True, slots=True)
class Group:
    """The devices of a model that run a version: how many, and how many of them are in which state."""

    model: str
    version: str | None
    devices: int
    disabled: int
    online: int
    asleep: int
    drifting: int
    without_key: int
    oldest_secret: datetime | None
    """Of those that are enabled and were seen."""
    health: dict[admin.Health, int]
    reasons: dict[admin.HealthReasonName, int]
    rotation: dict[admin.RotationState, int]


async def groups(session: AsyncSession, *, now: datetime, thresholds: HealthThresholds) -> list[Group]:
    """Return all devices in groups; their number does not depend on the number of devices.

    Counted side by side: in a group for each combination, PostgreSQL would sort all devices.
    """
    worst = health.worst(now, thresholds)
    state = health.of(worst.c.level)
    facts = (not_(Device.enabled), Presence.online, presences.ASLEEP, Presence.drifts, Device.public_key.is_(None))
    oldest = func.min(Device.secret_created_at).filter(Device.enabled, presences.WAS_SEEN)
    named = (
        *(state == name for name in _HEALTHS),
        *(literal_column(f"'{name}'") == worst.c.names.any_() for name in _REASONS),
        *(Device.rotation_state == name for name in _ROTATIONS),
    )
    alike = (DeviceModel.code, Presence.firmware_version)
    columns = (*alike, func.count(), *map(_number, facts), oldest, *map(_number, named))
    query = queries.active(select(*columns)).outerjoin(worst, worst.c.device_id == Device.id)
    return [_group(iter(row)) for row in await session.execute(query.group_by(*alike))]


def _number(condition: SQLColumnExpression[bool]) -> ColumnElement[int]:
    return func.count().filter(condition)


def _group(row: Iterator[Any]) -> Group:
    simple = [next(row) for _ in range(9)]
    return Group(*simple, *({name: next(row) for name in names} for names in (_HEALTHS, _REASONS, _ROTATIONS)))
