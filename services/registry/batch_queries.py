"""Queries for many devices at once; results are in the order of the given client ids."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final, NamedTuple

from sqlalchemy import and_, select
from sqlalchemy.ext.asyncio import AsyncSession

from shared.database import device_refs
from shared.database.tables import Device, DeviceConfig, DeviceModel, Presence


class Desired(NamedTuple):
    """A device's desired configuration."""

    version: int
    document: dict[str, Any]
    trial_seconds: int | None
    outcome: str | None
    secret_generation: int


# Built once: building a statement takes as long as executing it.
_AMONG: Final = and_(device_refs.AMONG, Device.lifecycle == "ACTIVE")
_DESIRED: Final = (
    select(
        DeviceModel.code,
        Device.key,
        DeviceConfig.version,
        DeviceConfig.document,
        DeviceConfig.trial_seconds,
        DeviceConfig.outcome,
        Device.secret_generation,
    )
    .select_from(Device)
    .join(DeviceModel, DeviceModel.id == Device.model_id)
    .join(DeviceConfig, and_(DeviceConfig.device_id == Device.id, DeviceConfig.version == Device.config_version))
    .where(_AMONG)
)
_PRESENCES: Final = (
    select(DeviceModel.code, Device.key, Presence)
    .select_from(Device)
    .join(DeviceModel, DeviceModel.id == Device.model_id)
    .join(Presence, Presence.device_id == Device.id)
    .where(_AMONG)
    # Always in the same order: two batches that lock the same rows must not deadlock.
    .order_by(Presence.device_id)
    .with_for_update(of=Presence)
)


async def desired(session: AsyncSession, client_ids: Sequence[str]) -> list[Desired | None]:
    """Return the desired configurations of devices; None: there is no such device."""
    rows = await session.execute(_DESIRED, {"keys": device_refs.keys(client_ids)})
    found = {device_refs.client_id(code, key): Desired(*facts) for code, key, *facts in rows}
    return [found.get(client_id) for client_id in client_ids]


async def presences(session: AsyncSession, client_ids: Sequence[str]) -> list[Presence | None]:
    """Return and lock the last statuses of devices; None: there is no such device."""
    rows = await session.execute(_PRESENCES, {"keys": device_refs.keys(client_ids)})
    found = {device_refs.client_id(code, key): presence for code, key, presence in rows}
    return [found.get(client_id) for client_id in client_ids]
