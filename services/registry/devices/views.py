"""The views of devices, with their health."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime
from functools import cache
from typing import Any, NamedTuple

from sqlalchemy import ARRAY, BigInteger, BindParameter, DateTime, Select, bindparam, select
from sqlalchemy.ext.asyncio import AsyncSession

from services.registry import health
from services.registry.context import Registry
from shared.database import device_refs, presences
from shared.database.tables import Device, DeviceModel, Presence
from shared.protocol import admin

Row = tuple[Device, DeviceModel, Presence]


class DeviceState(NamedTuple):
    """The health of a device, and its reasons, the worst first."""

    health: admin.Health
    reasons: list[admin.HealthReason]


async def of_rows(
    session: AsyncSession, registry: Registry, rows: Sequence[Row], *, now: datetime | None = None
) -> list[admin.DeviceView]:
    """Return the views of devices at a time, by default now."""
    now = now or datetime.now(UTC)
    states = await states_of(session, registry.thresholds, [device.id for device, _, _ in rows], now)
    return [_view(row, states[row[0].id], now) for row in rows]


async def of_row(session: AsyncSession, registry: Registry, row: Row) -> admin.DeviceView:
    """Return the view of a device."""
    return (await of_rows(session, registry, [row]))[0]


async def states_of(
    session: AsyncSession, thresholds: health.HealthThresholds, device_ids: Sequence[int], now: datetime
) -> dict[int, DeviceState]:
    """Return the health of devices by their ids."""
    rows = await session.execute(_states(thresholds), {"now": now, "device_ids": device_ids})
    return {device_id: DeviceState(state, [_reason(it) for it in details]) for device_id, state, details in rows}


@cache
def _states(thresholds: health.HealthThresholds) -> Select[Any]:
    """Return the query for the health of devices and its reasons."""
    now = bindparam("now", type_=DateTime(timezone=True))
    device_ids: BindParameter[Sequence[int]] = bindparam("device_ids", type_=ARRAY(BigInteger))
    states = health.states(now, thresholds, device_ids)
    return select(states.c.device_id, states.c.health, states.c.details)


def _reason(facts: dict[str, Any]) -> admin.HealthReason:
    return admin.HealthReason.model_validate({**facts, "level": health.LEVELS[facts["level"]]})


def _view(row: Row, state: DeviceState, now: datetime) -> admin.DeviceView:
    device, model, presence = row
    return admin.DeviceView(
        client_id=device_refs.client_id(model.code, device.key),
        key=device.key,
        model=model.code,
        name=device.name,
        tags=device.tags,
        enabled=device.enabled,
        online=presence.online,
        presence=presences.state(presence),
        health=state.health,
        health_reasons=state.reasons,
        last_seen_at=presences.seen_at(presence, now),
        wake_interval_s=presence.wake_interval_s,
        asleep_until=presence.asleep_until,
        firmware_version=presence.firmware_version,
        config_version=device.config_version,
        config_version_reported=presence.config_version,
        config_outcome=presence.config_outcome,
        config_error=presence.config_error,
        secret_generation=device.secret_generation,
        secret_created_at=device.secret_created_at,
        has_key=device.public_key is not None,
        rotation_state=device.rotation_state,
    )
