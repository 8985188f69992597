"""Queries on rotations; all run on the leader's connection."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from itertools import count, islice
from typing import Final, NamedTuple, get_args
from uuid import UUID

from sqlalchemy import (
    ARRAY,
    BigInteger,
    DateTime,
    Integer,
    all_,
    and_,
    bindparam,
    delete,
    exists,
    func,
    literal_column,
    not_,
    or_,
    select,
    true,
    update,
)
from sqlalchemy.ext.asyncio import AsyncSession

from services.rotator.states import BEFORE_SWITCH, Step
from shared.database import device_refs, presences
from shared.database.arrays import one_of
from shared.database.tables import Device, DeviceModel, Presence, Rotation, RotationSlot
from shared.errors import NotFoundError
from shared.protocol import admin
from shared.protocol.admin import PresenceState

RECONNECTS: Final = timedelta(seconds=10)
"""Time for a device that has lost its connection, or restarts, to be back."""


@dataclass(frozen=True, slots=True)
class DueDevice:
    """A device that is due for a rotation, and a free slot for it."""

    device_id: int
    client_id: str
    slot: int


# Built once: building a statement takes as long as executing it.
_NOW: Final = bindparam("now", type_=DateTime(timezone=True))
_SLOTS: Final = (
    select(RotationSlot.slot, Device.id)
    .outerjoin(Device, Device.rotation_slot == RotationSlot.slot)
    .order_by(RotationSlot.slot)
)
_IS_FREE: Final = select(
    exists().where(RotationSlot.slot == bindparam("slot", type_=Integer))
    & ~exists().where(Device.rotation_slot == bindparam("slot", type_=Integer))
)
_ALL_DUE: Final = (
    select(Device.id, DeviceModel.code, Device.key)
    .join(DeviceModel, DeviceModel.id == Device.model_id)
    .join(Presence, Presence.device_id == Device.id)
    .where(
        Device.enabled,
        Device.lifecycle == "ACTIVE",
        Presence.online,
        or_(
            Device.rotation_state == "QUEUED",
            and_(Device.rotation_state == "TIMEOUT", Device.rotation_retry_at <= _NOW),
        ),
    )
    .order_by(Device.rotation_state, Device.secret_created_at, Device.id)
    # Rows locked by others are skipped.
    .with_for_update(of=Device, skip_locked=True)
)
_ANY_WAITS: Final = select(exists().where(Device.rotation_state.in_(["QUEUED", "TIMEOUT"])))
_SLEEPS: Final = Presence.wake_interval_s.is_not(None)
# Separate queries, so that each finds its first by an index; a combined one would sort all queued devices.
_DUE: Final = tuple(
    _ALL_DUE.where(kind, Device.id != all_(bindparam("beginning", type_=ARRAY(BigInteger)))).limit(
        bindparam("count", type_=Integer)
    )
    for kind in (_SLEEPS, not_(_SLEEPS))
)
_STILL_DUE: Final = _ALL_DUE.where(Device.id == bindparam("device_id", type_=BigInteger))
_OPEN: Final = (
    select(Rotation, DeviceModel.code, Device.key)
    .join(Device, Device.id == Rotation.device_id)
    .join(DeviceModel, DeviceModel.id == Device.model_id)
    .where(Rotation.outcome.is_(None))
    .order_by(Rotation.started_at)
)
_LEFT: Final = (
    select(Rotation.id)
    .join(Presence, Presence.device_id == Rotation.device_id)
    .where(
        Rotation.outcome.is_(None),
        Rotation.step.in_(BEFORE_SWITCH),
        or_(presences.ASLEEP, and_(presences.OFFLINE, _NOW - RECONNECTS > presences.SEEN_AT)),
    )
)
_ARRIVALS: Final = (
    select(DeviceModel.code, Device.key, Device.rotation_state, Rotation)
    .select_from(Device)
    .join(DeviceModel, DeviceModel.id == Device.model_id)
    .outerjoin(
        Rotation,
        and_(
            Rotation.device_id == Device.id,
            Rotation.outcome.is_(None),
            Rotation.step.in_([Step.OFFERED, Step.DELIVERED]),
        ),
    )
    .where(device_refs.AMONG, Device.rotation_state != "OK")
)


async def free_slots(session: AsyncSession, wanted: int) -> list[int]:
    """Adjust the number of slots, and return the free ones; a superfluous one is deleted as soon as it is free."""
    users = dict((await session.execute(_SLOTS)).all())
    free = [slot for slot, device_id in users.items() if device_id is None]
    surplus = len(users) - wanted
    if surplus > 0:
        free, superfluous = free[:-surplus], free[-surplus:]
        await session.execute(delete(RotationSlot).where(one_of(RotationSlot.slot, superfluous)))
    elif surplus < 0:
        missing = list(islice((slot for slot in count() if slot not in users), -surplus))
        session.add_all(RotationSlot(slot=slot) for slot in missing)
        free += missing
    return free


async def any_waits(session: AsyncSession) -> bool:
    """Return whether any device is queued or waits for another attempt, online or not."""
    return bool(await session.scalar(_ANY_WAITS))


async def due(
    session: AsyncSession, slots: Sequence[int], *, now: datetime, beginning: Collection[int]
) -> list[DueDevice]:
    """Lock the next devices due at `now` (UTC), one for each slot; without those (ids) that are `beginning`.

    Only online devices; those that sleep first, as they are here for seconds only; QUEUED before TIMEOUT, oldest
    secret first.
    """
    found: list[tuple[int, str]] = []
    for query in _DUE:
        if len(found) < len(slots):
            given = {"now": now, "beginning": list(beginning), "count": len(slots) - len(found)}
            rows = await session.execute(query, given)
            found += [(row.id, device_refs.client_id(row.code, row.key)) for row in rows]
    return [DueDevice(*device, slot) for device, slot in zip(found, slots, strict=False)]


async def is_due(session: AsyncSession, candidate: DueDevice, *, now: datetime) -> bool:
    """Lock a device if it is still due at `now` (UTC), and return whether it is, and its slot is still free."""
    if not await session.scalar(_IS_FREE, {"slot": candidate.slot}):
        return False
    one = {"now": now, "device_id": candidate.device_id}
    return (await session.execute(_STILL_DUE, one)).one_or_none() is not None


async def count_states(session: AsyncSession) -> dict[str, int]:
    """Return the number of devices in each state of rotation, including states without devices."""
    rows = await session.execute(
        select(Device.rotation_state, func.count())
        .where(Device.lifecycle == "ACTIVE")
        .group_by(Device.rotation_state)
    )
    return dict.fromkeys(get_args(admin.RotationState), 0) | dict(rows.all())


async def open_rotations(session: AsyncSession) -> list[tuple[Rotation, str]]:
    """Return all rotations in progress with the client ids of their devices, oldest first; none is locked."""
    rows = await session.execute(_OPEN)
    return [(found, device_refs.client_id(code, key)) for found, code, key in rows]


async def rotation(
    session: AsyncSession, rotation_id: UUID, owner: str | None = None
) -> tuple[Rotation, Device, str]:
    """Return and lock a rotation with its device and client id.

    Raise NotFoundError if there is none of this id, or none of this owner.
    """
    row = (
        await session.execute(
            select(Rotation, Device, DeviceModel.code)
            .join(Device, Device.id == Rotation.device_id)
            .join(DeviceModel, DeviceModel.id == Device.model_id)
            .where(Rotation.id == rotation_id, device_refs.named(owner) if owner else true())
            .with_for_update(of=(Rotation, Device))
        )
    ).one_or_none()
    if row is None:
        raise NotFoundError(f"rotation_id: there is no rotation {rotation_id} of {owner or 'any device'}")
    found, device, code = row
    return found, device, device_refs.client_id(code, device.key)


async def reported_generation(session: AsyncSession, device: Device) -> int | None:
    """Return the generation that the device reported for its last login."""
    return await session.scalar(select(Presence.secret_generation).where(Presence.device_id == device.id))


async def verify_soon(session: AsyncSession, client_id: str) -> None:
    """Schedule the comparison of a device's credentials for now."""
    await session.execute(
        update(Device)
        .where(device_refs.AMONG, Device.lifecycle == "ACTIVE")
        .values(verify_at=func.now())
        .execution_options(synchronize_session=False),
        {"keys": device_refs.keys([client_id])},
    )


class Arrival(NamedTuple):
    """The rotation state of a device that has come online, and its open rotation up to DELIVERED."""

    state: str = "OK"
    rotation: Rotation | None = None


async def arrivals(session: AsyncSession, client_ids: Sequence[str]) -> list[Arrival]:
    """Return for each device its state, and its open rotation if it has not fetched or stored the secret yet."""
    rows = await session.execute(_ARRIVALS, {"keys": device_refs.keys(client_ids)})
    found = {device_refs.client_id(code, key): Arrival(state, rotation) for code, key, state, rotation in rows}
    return [found.get(client_id, Arrival()) for client_id in client_ids]


async def left(session: AsyncSession, *, now: datetime) -> set[UUID]:
    """Return the rotations before the switch whose device has left: it is asleep, or offline for a while."""
    return set(await session.scalars(_LEFT, {"now": now}))


async def count_waiting(session: AsyncSession) -> dict[PresenceState, int]:
    """Return the number of queued devices by presence."""
    rows = await session.execute(
        select(presences.STATE, func.count())
        .select_from(Device)
        .join(Presence, Presence.device_id == Device.id)
        .where(Device.lifecycle == "ACTIVE", Device.rotation_state == "QUEUED")
        .group_by(literal_column("1"))
    )
    return dict(rows.all())
