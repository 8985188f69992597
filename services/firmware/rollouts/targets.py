"""Queries on the devices that a rollout may reach, and on their state."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from typing import Any, NamedTuple

from sqlalchemy import BigInteger, ColumnElement, and_, cast, func, select
from sqlalchemy.ext.asyncio import AsyncSession
from sqlalchemy.orm import InstrumentedAttribute

from services.firmware import rules
from services.firmware.assignment.rollout_states import DeviceStatus
from shared.database import device_refs
from shared.database.tables import (
    Device,
    DeviceModel,
    FirmwareDelivery,
    FirmwareImage,
    Presence,
    Rollout,
    RolloutDevice,
)


class KnownTarget(NamedTuple):
    """A device that an image is intended for; `stage` is that of its delivery."""

    device_id: int
    client_id: str
    enabled: bool
    online: bool
    last_seen_at: datetime | None
    running: rules.Running
    stage: str | None


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
    return await _known(session, sha256, Device.id.in_(found), order=Device.id) if found else []


async def _known(
    session: AsyncSession,
    sha256: str,
    condition: ColumnElement[bool],
    *,
    order: ColumnElement[Any] | InstrumentedAttribute[int],
) -> list[KnownTarget]:
    status = Presence.status
    rows = await session.execute(
        select(
            *(Device.id, DeviceModel.code, Device.key, Device.enabled, Presence.online, Presence.last_seen_at),
            *(Presence.firmware_sha256, status["chip"].astext, status["project"].astext),
            *(cast(status["slot_size_bytes"].astext, BigInteger), FirmwareDelivery.stage),
        )
        .join(DeviceModel, DeviceModel.id == Device.model_id)
        .outerjoin(Presence, Presence.device_id == Device.id)
        .outerjoin(
            FirmwareDelivery, and_(FirmwareDelivery.device_id == Device.id, FirmwareDelivery.sha256 == sha256)
        )
        .where(Device.lifecycle == "ACTIVE", condition)
        .order_by(order)
    )
    return [
        KnownTarget(
            row[0],
            device_refs.client_id(row[1], row[2]),
            row[3],
            bool(row[4]),
            row[5],
            rules.Running(*row[6:10]),
            row[10],
        )
        for row in rows
    ]
