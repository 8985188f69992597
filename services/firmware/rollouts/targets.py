"""Queries on the devices that a rollout may reach, and on their state."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Any, NamedTuple

from sqlalchemy import ColumnElement, and_, func, select
from sqlalchemy.ext.asyncio import AsyncSession
from sqlalchemy.orm import InstrumentedAttribute

from services.firmware import rules
from services.firmware.assignment.prospects import running_of
from services.firmware.assignment.rollout_states import DeviceStatus
from shared.database import device_refs, presences
from shared.database.arrays import one_of
from shared.database.tables import (
    Device,
    DeviceModel,
    FirmwareDelivery,
    FirmwareImage,
    Presence,
    Rollout,
    RolloutDevice,
)
from shared.protocol.admin import PresenceState


class KnownTarget(NamedTuple):
    """A device that an image is intended for, and its earlier delivery of it."""

    device_id: int
    client_id: str
    name: str
    enabled: bool
    presence: PresenceState
    last_seen_at: datetime | None
    running: rules.Running
    delivery: FirmwareDelivery | None


async def selected(
    session: AsyncSession, model: DeviceModel, tags: Sequence[str], image: FirmwareImage
) -> list[KnownTarget]:
    """Return the model's devices that have all of these tags, in an order that differs for each image."""
    return await _known(
        session,
        image.sha256,
        and_(Device.model_id == model.id, Device.tags.contains(list(tags))),
        order=func.md5(Device.key + image.sha256),
    )


async def candidates(session: AsyncSession, rollout: Rollout, sha256: str, limit: int) -> list[KnownTarget]:
    """Return and lock up to `limit` devices that wait in open waves and are online."""
    waiting = (
        select(RolloutDevice.device_id)
        .join(Device, Device.id == RolloutDevice.device_id)
        .join(Presence, Presence.device_id == RolloutDevice.device_id)
        .where(
            RolloutDevice.rollout_id == rollout.id,
            RolloutDevice.state == DeviceStatus.WAITING,
            RolloutDevice.wave.between(1, rollout.wave),
            Device.enabled,
            Device.lifecycle == "ACTIVE",
            Presence.online,
        )
        .order_by(RolloutDevice.wave, RolloutDevice.device_id)
        .limit(limit)
        .with_for_update(of=RolloutDevice, skip_locked=True)
    )
    found = list(await session.scalars(waiting))
    return await _known(session, sha256, one_of(Device.id, found), order=Device.id) if found else []


async def _known(
    session: AsyncSession,
    sha256: str,
    condition: ColumnElement[bool],
    *,
    order: ColumnElement[Any] | InstrumentedAttribute[int],
) -> list[KnownTarget]:
    rows = await session.execute(
        select(Device, DeviceModel.code, Presence, FirmwareDelivery)
        .join(DeviceModel, DeviceModel.id == Device.model_id)
        .outerjoin(Presence, Presence.device_id == Device.id)
        .outerjoin(
            FirmwareDelivery, and_(FirmwareDelivery.device_id == Device.id, FirmwareDelivery.sha256 == sha256)
        )
        .where(Device.lifecycle == "ACTIVE", condition)
        .order_by(order)
    )
    now = datetime.now(UTC)
    return [
        KnownTarget(
            device.id,
            device_refs.client_id(code, device.key),
            device.name,
            device.enabled,
            presences.state(presence) if presence else "offline",
            presences.seen_at(presence, now) if presence else None,
            running_of(presence),
            delivery,
        )
        for device, code, presence, delivery in rows
    ]
