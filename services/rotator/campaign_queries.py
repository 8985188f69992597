"""Queries on the rotations of many devices at once."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from datetime import datetime
from typing import Final, NamedTuple

from sqlalchemy import ColumnElement, delete, exists, select, update
from sqlalchemy.ext.asyncio import AsyncSession

from shared.database import device_refs
from shared.database.arrays import one_of
from shared.database.tables import Device, DeviceModel, Presence, Rotation
from shared.protocol import admin

_BATCH: Final = 5000
_FORGOTTEN: Final = 10_000


class RotationTarget(NamedTuple):
    """A device that an admin selected."""

    device_id: int
    client_id: str
    enabled: bool
    state: str
    online: bool
    cancelled: bool


async def targets(session: AsyncSession, condition: ColumnElement[bool]) -> list[RotationTarget]:
    """Return and lock the selected devices; `cancelled` have a cancelled rotation that has not ended."""
    cancelled = exists().where(
        Rotation.device_id == Device.id, Rotation.outcome.is_(None), Rotation.deadline_at <= Rotation.started_at
    )
    online = exists().where(Presence.device_id == Device.id, Presence.online)
    rows = await session.execute(
        select(Device.id, DeviceModel.code, Device.key, Device.enabled, Device.rotation_state, online, cancelled)
        .join(DeviceModel, DeviceModel.id == Device.model_id)
        .where(Device.lifecycle == "ACTIVE", condition)
        .order_by(Device.id)
        .with_for_update(of=Device)
    )
    return [RotationTarget(row[0], device_refs.client_id(row[1], row[2]), *row[3:]) for row in rows]


async def queue(session: AsyncSession, targets: Sequence[RotationTarget]) -> list[RotationTarget]:
    """Queue locked devices that are not queued or in progress, and return them."""
    free = [target for target in targets if target.state in ("OK", "TIMEOUT")]
    await set_state(session, free, "QUEUED")
    return free


async def set_state(session: AsyncSession, targets: Sequence[RotationTarget], state: str) -> None:
    """Set the state of locked devices to OK or QUEUED, without a retry."""
    for ids in _batches(targets):
        await session.execute(
            update(Device)
            .where(one_of(Device.id, ids))
            .values(rotation_state=state, rotation_retry_at=None)
            .execution_options(synchronize_session=False)
        )


async def cancel(session: AsyncSession, targets: Sequence[RotationTarget]) -> None:
    """Cancel the rotations in progress of locked devices, see `attempt.is_cancelled`."""
    for ids in _batches(targets):
        await session.execute(
            update(Rotation)
            .where(one_of(Rotation.device_id, ids), Rotation.outcome.is_(None))
            .values(deadline_at=Rotation.started_at)
            .execution_options(synchronize_session=False)
        )


async def under_way(session: AsyncSession, wanted: admin.RotationStatus) -> list[tuple[Rotation, int, str]]:
    """Return up to `limit` rotations in progress, each with its slot, after `after`, and client id."""
    rows = await session.execute(
        select(Rotation, Device.rotation_slot, DeviceModel.code, Device.key)
        .join(Device, Device.id == Rotation.device_id)
        .join(DeviceModel, DeviceModel.id == Device.model_id)
        .where(Rotation.outcome.is_(None), Device.rotation_slot > wanted.after)
        .order_by(Device.rotation_slot)
        .limit(wanted.limit)
    )
    return [(rotation, slot or 0, device_refs.client_id(code, key)) for rotation, slot, code, key in rows]


async def client_id(session: AsyncSession, name: str) -> str:
    """Return the client id of a device, or raise NotFoundError."""
    query = select(DeviceModel.code, Device.key).join(Device, Device.model_id == DeviceModel.id)
    row = (await session.execute(query.where(device_refs.named(name)))).one_or_none()
    if row is None:
        raise device_refs.unknown(name)
    return device_refs.client_id(*row)


async def history(session: AsyncSession, wanted: admin.RotationHistory) -> list[Rotation]:
    """Return up to `limit` rotations of a device below the generation `before`, newest first."""
    query = (
        select(Rotation)
        .join(Device, Device.id == Rotation.device_id)
        .join(DeviceModel, DeviceModel.id == Device.model_id)
        .where(device_refs.named(wanted.device))
        .order_by(Rotation.generation.desc())
        .limit(wanted.limit)
    )
    if wanted.before is not None:
        query = query.where(Rotation.generation < wanted.before)
    return list(await session.scalars(query))


async def forget_ended(session: AsyncSession, *, before: datetime) -> bool:
    """Delete some of the rotations that ended before a time (UTC); return whether there may be more."""
    old = select(Rotation.id).where(Rotation.ended_at < before).limit(_FORGOTTEN)
    gone = await session.execute(delete(Rotation).where(Rotation.id.in_(old)).returning(Rotation.id))
    return len(gone.all()) == _FORGOTTEN


def _batches(targets: Sequence[RotationTarget]) -> Iterator[list[int]]:
    """Yield the ids in batches: no statement on the leader's connection may take as long as the lease."""
    for start in range(0, len(targets), _BATCH):
        yield [target.device_id for target in targets[start : start + _BATCH]]
