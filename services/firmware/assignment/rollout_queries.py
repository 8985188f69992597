"""Queries on rollouts as a whole."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any, Final

from sqlalchemy import and_, delete, exists, func, not_, or_, select, tuple_, update
from sqlalchemy.dialects.postgresql import insert
from sqlalchemy.ext.asyncio import AsyncSession

from services.firmware.assignment.rollout_states import UNDER_WAY, DeviceStatus, State
from shared.database.tables import (
    DeviceModel,
    FirmwareImage,
    Rollout,
    RolloutDevice,
)
from shared.errors import ConflictError, NotFoundError

_BATCH: Final = 5000
_OPEN: Final = Rollout.ended_at.is_(None)


async def image(session: AsyncSession, model: DeviceModel, version: str) -> FirmwareImage:
    """Return the model's image of this version, locked against deletion, or raise NotFoundError."""
    query = select(FirmwareImage).where(FirmwareImage.model_id == model.id, FirmwareImage.version == version)
    found = await session.scalar(query.with_for_update(read=True))
    if found is None:
        raise NotFoundError(f"version: {model.code} has no image {version}; see `mdm firmware list`")
    return found


async def live(session: AsyncSession, model_id: int) -> dict[int, int]:
    """Return the open rollouts of a model's devices, by device."""
    rows = await session.execute(
        select(RolloutDevice.device_id, RolloutDevice.rollout_id)
        .join(Rollout, Rollout.id == RolloutDevice.rollout_id)
        .where(Rollout.model_id == model_id, RolloutDevice.live)
    )
    return dict(rows.all())


async def add(session: AsyncSession, rollout: Rollout, devices: Sequence[Mapping[str, Any]]) -> None:
    """Store the devices of a new rollout."""
    for start in range(0, len(devices), _BATCH):
        batch = [{"rollout_id": rollout.id, **device} for device in devices[start : start + _BATCH]]
        await session.execute(insert(RolloutDevice), batch)


async def rollout(session: AsyncSession, rollout_id: int | None) -> tuple[Rollout, str]:
    """Return a rollout, or the newest, and its model's code; raise NotFoundError."""
    query = select(Rollout, DeviceModel.code).join(DeviceModel, DeviceModel.id == Rollout.model_id)
    if rollout_id is not None:
        query = query.where(Rollout.id == rollout_id)
    row = (await session.execute(query.order_by(Rollout.id.desc()).limit(1))).one_or_none()
    if row is None:
        raise NotFoundError(
            "there is no rollout" + ("" if rollout_id is None else f" {rollout_id}"), rollout=rollout_id
        )
    return row


async def locked(session: AsyncSession, rollout_id: int) -> Rollout:
    """Return and lock a rollout, or raise NotFoundError."""
    found = await session.get(Rollout, rollout_id, with_for_update=True)
    if found is None:
        raise NotFoundError(f"there is no rollout {rollout_id}", rollout=rollout_id)
    return found


async def free(session: AsyncSession, rollout_id: int) -> Rollout | None:
    """Return and lock a rollout, or None while another transaction has locked it."""
    return await session.get(Rollout, rollout_id, with_for_update={"skip_locked": True})


async def newest(session: AsyncSession, limit: int) -> list[tuple[Rollout, str]]:
    """Return the newest rollouts, each with its model's code."""
    query = select(Rollout, DeviceModel.code).join(DeviceModel, DeviceModel.id == Rollout.model_id)
    return list((await session.execute(query.order_by(Rollout.id.desc()).limit(limit))).all())


async def due(session: AsyncSession) -> list[int]:
    """Return the rollouts to advance: the open ones, and those that have devices in progress."""
    under_way = select(RolloutDevice.rollout_id).where(RolloutDevice.state.in_(UNDER_WAY))
    return list(
        await session.scalars(select(Rollout.id).where(or_(_OPEN, Rollout.id.in_(under_way))).order_by(Rollout.id))
    )


async def needed(session: AsyncSession, model_id: int) -> dict[str, int]:
    """Return the images of a model that rollouts need, each with the newest such rollout.

    A rollout needs its image while it is open, or while devices have the image by it.
    """
    has_it = exists().where(
        RolloutDevice.rollout_id == Rollout.id,
        or_(
            RolloutDevice.state.in_([DeviceStatus.TAKEN, DeviceStatus.CONFIRMED]),
            and_(Rollout.state == State.COMPLETED, RolloutDevice.state == DeviceStatus.WAITING),
        ),
    )
    rows = await session.execute(
        select(Rollout.sha256, func.max(Rollout.id))
        .where(
            Rollout.model_id == model_id, Rollout.sha256.is_not(None), or_(_OPEN, and_(Rollout.in_force, has_it))
        )
        .group_by(Rollout.sha256)
    )
    return {sha256: rollout_id for sha256, rollout_id in rows if sha256 is not None}


async def open_of(session: AsyncSession, model_id: int, *, but: int | None = None) -> int | None:
    """Return the newest open rollout of a model, except for one."""
    return await session.scalar(
        select(func.max(Rollout.id)).where(Rollout.model_id == model_id, _OPEN, Rollout.id.is_distinct_from(but))
    )


async def end_force(session: AsyncSession, model: DeviceModel) -> bool:
    """End the force of a model's rollouts, as the model gets an image, and return whether there were any.

    Raise ConflictError while one is open.
    """
    opened = await open_of(session, model.id)
    if opened is not None:
        raise ConflictError(
            f"rollout {opened} of {model.code} is open: abort it first, or upload with --no-release",
            rollout=opened,
        )
    ended = await session.scalars(
        update(Rollout)
        .where(Rollout.model_id == model.id, Rollout.in_force)
        .values(in_force=False)
        .returning(Rollout.id)
        .execution_options(synchronize_session=False)
    )
    return bool(ended.all())


async def forget_ended(session: AsyncSession, *, before: datetime) -> bool:
    """Delete some of what ended before a time (UTC) and is not in force; return whether there may be more.

    The devices first: a rollout may have a million.
    """
    over = and_(Rollout.ended_at < before, not_(Rollout.in_force))
    key = tuple_(RolloutDevice.rollout_id, RolloutDevice.device_id)
    some = (
        select(RolloutDevice.rollout_id, RolloutDevice.device_id)
        .join(Rollout, Rollout.id == RolloutDevice.rollout_id)
        .where(over)
        .limit(_BATCH)
    )
    gone = await session.execute(delete(RolloutDevice).where(key.in_(some)).returning(RolloutDevice.device_id))
    if len(gone.all()) == _BATCH:
        return True
    empty = ~exists().where(RolloutDevice.rollout_id == Rollout.id)
    await session.execute(delete(Rollout).where(over, empty).execution_options(synchronize_session=False))
    return False
