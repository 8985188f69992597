"""The gauges of all devices, by model."""

from __future__ import annotations

from collections.abc import Iterable
from itertools import product
from typing import Any, Final, get_args

from sqlalchemy import ColumnElement, func, literal_column, select
from sqlalchemy.ext.asyncio import AsyncSession

from services.registry import queries
from services.registry.context import Registry
from shared.database import presences
from shared.database.tables import Device, DeviceHealth, DeviceModel, Presence
from shared.protocol import admin
from shared.runtime import metrics
from shared.runtime.metrics import Samples

GAUGES: Final = (
    metrics.PRESENCES,
    metrics.HEALTH,
    metrics.HEALTH_REASONS,
    metrics.FIRMWARE_VERSIONS,
    metrics.OLDEST_SECRETS,
)
MOST_VERSIONS: Final = 20
"""Of each model; devices choose what they report, and each version is a series of its own."""
OTHERS: Final = "others"


_HEALTHS: Final = (
    select(DeviceModel.code, DeviceHealth.health, DeviceHealth.reasons, func.count())
    .select_from(DeviceHealth)
    .join(Device, Device.id == DeviceHealth.device_id)
    .join(DeviceModel, DeviceModel.id == Device.model_id)
    .group_by(DeviceModel.code, DeviceHealth.health, DeviceHealth.reasons)
)


async def look(registry: Registry) -> list[Samples]:
    """Return the samples of all gauges, in their order; what no device of a model has is 0."""
    async with registry.database.transaction() as session:
        models = list(await session.scalars(select(DeviceModel.code)))
        healths = list(await session.execute(_HEALTHS))
        oldest = (
            queries.active(select(DeviceModel.code, func.min(Device.secret_created_at)))
            .where(Device.enabled, presences.WAS_SEEN)
            .group_by(DeviceModel.code)
        )
        return [
            _zeros(models, admin.PresenceState) | await _count(session, presences.STATE),
            _zeros(models, admin.Health) | _sum((code, health, count) for code, health, _, count in healths),
            _zeros(models, admin.HealthReasonName)
            | _sum((code, name, count) for code, _, names, count in healths for name in names),
            _most(await _count(session, func.coalesce(Presence.firmware_version, ""))),
            {code: at.timestamp() for code, at in await session.execute(oldest)},
        ]


def _zeros(models: list[str], names: Any) -> dict[tuple[str, ...], float]:  # noqa: ANN401 - a Literal
    return dict.fromkeys(product(models, get_args(names)), 0)


async def _count(session: AsyncSession, what: ColumnElement[Any]) -> dict[tuple[str, ...], float]:
    query = queries.active(select(DeviceModel.code, what, func.count()))
    return _sum(await session.execute(query.group_by(literal_column("1"), literal_column("2"))))


def _sum(rows: Iterable[Any]) -> dict[tuple[str, ...], float]:
    """Return the sums of rows of model, value and number."""
    found: dict[tuple[str, ...], float] = {}
    for code, value, count in rows:
        found[code, value] = found.get((code, value), 0) + count
    return found


def _most(counts: dict[tuple[str, ...], float]) -> dict[tuple[str, ...], float]:
    """Return the counts of each model's most frequent versions, and of all others together."""
    found: dict[tuple[str, ...], float] = {}
    shown: dict[str, int] = {}
    for (code, version), count in sorted(counts.items(), key=lambda it: (-it[1], it[0])):
        shown[code] = shown.get(code, 0) + 1
        key = (code, version if shown[code] <= MOST_VERSIONS else OTHERS)
        found[key] = found.get(key, 0) + count
    return found
