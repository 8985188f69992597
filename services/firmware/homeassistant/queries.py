"""Queries for Home Assistant."""

from __future__ import annotations

from dataclasses import dataclass

from sqlalchemy import func, select
from sqlalchemy.ext.asyncio import AsyncSession

from shared.database import device_refs
from shared.database.tables import Device, DeviceHealth, DeviceModel, Presence


@dataclass(frozen=True, slots=True)
class KnownDevice:
    """A device, its model, its last status and the health that was last announced."""

    device: Device
    model: DeviceModel
    presence: Presence
    health: DeviceHealth | None


async def lock(session: AsyncSession, client_id: str) -> None:
    """Lock the messages about a device for the transaction: they are published in the order of the reads."""
    await session.execute(
        select(func.pg_advisory_xact_lock(func.hashtextextended(f"homeassistant:{client_id}", 0)))
    )


async def known(session: AsyncSession, client_id: str) -> KnownDevice | None:
    """Return a device with its state, or None if there is none of this name."""
    row = (
        await session.execute(
            select(Device, DeviceModel, Presence, DeviceHealth)
            .join(DeviceModel, DeviceModel.id == Device.model_id)
            .join(Presence, Presence.device_id == Device.id)
            .outerjoin(DeviceHealth, DeviceHealth.device_id == Device.id)
            .where(device_refs.named(client_id), Device.lifecycle == "ACTIVE")
        )
    ).one_or_none()
    return None if row is None else KnownDevice(*row)


async def page(session: AsyncSession, model: str | None, after: int, *, limit: int) -> list[tuple[int, str]]:
    """Return the ids and client ids of the next devices of a model, or of all, after the id `after`."""
    query = (
        select(Device.id, DeviceModel.code, Device.key)
        .join(DeviceModel, DeviceModel.id == Device.model_id)
        .where(Device.lifecycle == "ACTIVE", Device.id > after)
        .order_by(Device.id)
        .limit(limit)
    )
    rows = await session.execute(query if model is None else query.where(DeviceModel.code == model))
    return [(device_id, device_refs.client_id(code, key)) for device_id, code, key in rows]


async def all_client_ids(session: AsyncSession) -> set[str]:
    """Return the client ids of all devices."""
    rows = await session.execute(
        select(DeviceModel.code, Device.key)
        .join(Device, Device.model_id == DeviceModel.id)
        .where(Device.lifecycle == "ACTIVE")
    )
    return {device_refs.client_id(code, key) for code, key in rows}
