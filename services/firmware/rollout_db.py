"""Queries on rollouts and on how devices stand in them."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from datetime import datetime, timedelta
from typing import Any, Final, NamedTuple

from sqlalchemy import BigInteger, ColumnElement, and_, cast, exists, func, or_, select, update
from sqlalchemy.dialects.postgresql import insert
from sqlalchemy.ext.asyncio import AsyncSession
from sqlalchemy.orm import InstrumentedAttribute

from services.firmware import domain, rollout_domain
from services.firmware.rollout_domain import FAILURES, UNDER_WAY, Fact, Stand, State, Tally
from shared import admin, names
from shared.errors import ConflictError, NotFoundError
from shared.schema import (
    Device,
    DeviceModel,
    FirmwareDelivery,
    FirmwareImage,
    Presence,
    Rollout,
    RolloutDevice,
)

_BATCH: Final = 5000
_OPEN: Final = Rollout.ended_at.is_(None)


class Known(NamedTuple):
    """What is known of a device for which an image is meant; `stage` is how its delivery stands."""

    device_id: int
    client_id: str
    enabled: bool
    online: bool
    last_seen_at: datetime | None
    running: domain.Running
    stage: str | None


async def image(session: AsyncSession, model: DeviceModel, version: str) -> FirmwareImage:
    """Return the model's image of this version, kept from being deleted, or raise NotFoundError."""
    query = select(FirmwareImage).where(FirmwareImage.model_id == model.id, FirmwareImage.version == version)
    found = await session.scalar(query.with_for_update(read=True))
    if found is None:
        raise NotFoundError(f"version: {model.code} has no image {version}; upload it with --no-release")
    return found


async def selected(
    session: AsyncSession, model: DeviceModel, tags: Sequence[str], image: FirmwareImage
) -> list[Known]:
    """Return the model's devices that have all of these tags, in an order that is another one for each image."""
    return await _known(
        session,
        image.sha256,
        and_(Device.model_id == model.id, Device.tags.contains(list(tags))),
        order=func.md5(Device.key + image.sha256),
    )


async def candidates(session: AsyncSession, rollout: Rollout, sha256: str, limit: int) -> list[Known]:
    """Return and lock up to `limit` devices that wait in the waves that are open, and are online."""
    waiting = (
        select(RolloutDevice.device_id)
        .join(Device, Device.id == RolloutDevice.device_id)
        .join(Presence, Presence.device_id == RolloutDevice.device_id)
        .where(
            RolloutDevice.rollout_id == rollout.id,
            RolloutDevice.state == Stand.WAITING,
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
    meant: ColumnElement[bool],
    *,
    order: ColumnElement[Any] | InstrumentedAttribute[int],
) -> list[Known]:
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
        .where(Device.lifecycle == "ACTIVE", meant)
        .order_by(order)
    )
    return [
        Known(
            row[0],
            names.client_id(row[1], row[2]),
            row[3],
            bool(row[4]),
            row[5],
            domain.Running(*row[6:10]),
            row[10],
        )
        for row in rows
    ]


async def live(session: AsyncSession, model_id: int) -> dict[int, int]:
    """Return the open rollouts of a model's devices, by device."""
    rows = await session.execute(
        select(RolloutDevice.device_id, RolloutDevice.rollout_id)
        .join(Rollout, Rollout.id == RolloutDevice.rollout_id)
        .where(Rollout.model_id == model_id, RolloutDevice.live)
    )
    return dict(rows.tuples().all())


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
    row = (await session.execute(query.order_by(Rollout.id.desc()).limit(1))).tuples().one_or_none()
    if row is None:
        raise NotFoundError("there is no rollout" + ("" if rollout_id is None else f" {rollout_id}"))
    return row


async def locked(session: AsyncSession, rollout_id: int) -> Rollout:
    """Return and lock a rollout, or raise NotFoundError."""
    found = await session.get(Rollout, rollout_id, with_for_update=True)
    if found is None:
        raise NotFoundError(f"there is no rollout {rollout_id}")
    return found


async def free(session: AsyncSession, rollout_id: int) -> Rollout | None:
    """Return and lock a rollout, or None while another has locked it."""
    return await session.get(Rollout, rollout_id, with_for_update={"skip_locked": True})


async def newest(session: AsyncSession, limit: int) -> list[tuple[Rollout, str]]:
    """Return the newest rollouts, each with its model's code."""
    query = select(Rollout, DeviceModel.code).join(DeviceModel, DeviceModel.id == Rollout.model_id)
    return list((await session.execute(query.order_by(Rollout.id.desc()).limit(limit))).tuples())


async def due(session: AsyncSession) -> list[int]:
    """Return the rollouts that go on: those that are open, and those that have devices under way."""
    under_way = select(RolloutDevice.rollout_id).where(RolloutDevice.state.in_(UNDER_WAY))
    return list(
        await session.scalars(select(Rollout.id).where(or_(_OPEN, Rollout.id.in_(under_way))).order_by(Rollout.id))
    )


async def tallies(session: AsyncSession, rollout: Rollout) -> dict[int, Tally]:
    """Return the tallies of the waves that are open."""
    rows = await session.execute(
        select(RolloutDevice.wave, RolloutDevice.state, RolloutDevice.forgiven, func.count())
        .where(RolloutDevice.rollout_id == rollout.id, RolloutDevice.wave.between(1, rollout.wave))
        .group_by(RolloutDevice.wave, RolloutDevice.state, RolloutDevice.forgiven)
    )
    waves: dict[int, list[tuple[Stand, bool, int]]] = {}
    for wave, state, forgiven, count in rows:
        waves.setdefault(wave, []).append((Stand(state), forgiven, count))
    return {wave: rollout_domain.tally(counts) for wave, counts in waves.items()}


async def counts(session: AsyncSession, rollout: Rollout) -> dict[int, dict[str, int]]:
    """Return how many devices of each wave stand how."""
    rows = await session.execute(
        select(RolloutDevice.wave, RolloutDevice.state, func.count())
        .where(RolloutDevice.rollout_id == rollout.id)
        .group_by(RolloutDevice.wave, RolloutDevice.state)
        .order_by(RolloutDevice.wave)
    )
    found: dict[int, dict[str, int]] = {}
    for wave, state, count in rows:
        found.setdefault(wave, {})[state.lower()] = count
    return found


async def failures(session: AsyncSession, rollout: Rollout) -> list[admin.RolloutFailure]:
    """Return the latest devices that failed, then those that were skipped, up to MAX_NAMED."""
    rows = await session.execute(
        select(RolloutDevice, DeviceModel.code, Device.key)
        .join(Device, Device.id == RolloutDevice.device_id)
        .join(DeviceModel, DeviceModel.id == Device.model_id)
        .where(RolloutDevice.rollout_id == rollout.id, RolloutDevice.state.in_(FAILURES | {Stand.SKIPPED}))
        .order_by(RolloutDevice.state == Stand.SKIPPED, RolloutDevice.changed_at.desc(), RolloutDevice.device_id)
        .limit(admin.MAX_NAMED)
    )
    return [
        admin.RolloutFailure(
            client_id=names.client_id(code, key),
            wave=row.wave,
            state=row.state,
            reason=row.reason,
            at=row.changed_at,
            forgiven=row.forgiven,
        )
        for row, code, key in rows
    ]


async def room(session: AsyncSession, rollout: Rollout, plan: admin.RolloutPlan, now: datetime) -> int:
    """Return how many devices may be offered the image now."""
    mine = RolloutDevice.rollout_id == rollout.id
    under_way = select(func.count()).where(mine, RolloutDevice.state.in_(UNDER_WAY))
    lately = select(func.count()).where(mine, RolloutDevice.offered_at > now - timedelta(minutes=1))
    return min(
        plan.max_under_way - (await session.scalar(under_way) or 0),
        plan.offers_per_minute - (await session.scalar(lately) or 0),
    )


async def apply(
    session: AsyncSession,
    rollout: Rollout,
    fact: Fact,
    meant: ColumnElement[bool],
    *,
    reason: str | None = None,
    **also: object,
) -> list[int]:
    """Let a fact happen to the devices of a rollout that are meant, and return whom it changed."""
    before, after = rollout_domain.effect(fact)
    values = {"state": after, "reason": reason, "changed_at": func.now(), **also}
    if after is Stand.SKIPPED:
        values["live"] = False
    changed = await session.scalars(
        update(RolloutDevice)
        .where(RolloutDevice.rollout_id == rollout.id, RolloutDevice.state.in_(before), meant)
        .values(**values)
        .returning(RolloutDevice.device_id)
        .execution_options(synchronize_session=False)
    )
    return list(changed)


async def note(
    session: AsyncSession, device_id: int, sha256: str, fact: Fact, *, reason: str | None = None
) -> None:
    """Let a fact happen to a device in the newest rollout that meant this image for it, if there is one."""
    row = await session.scalar(
        select(RolloutDevice)
        .join(Rollout, Rollout.id == RolloutDevice.rollout_id)
        .where(RolloutDevice.device_id == device_id, Rollout.sha256 == sha256)
        .order_by(RolloutDevice.rollout_id.desc())
        .limit(1)
        .with_for_update(of=RolloutDevice)
    )
    if row is None:
        return
    after = rollout_domain.stand_after(Stand(row.state), fact)
    if after != row.state:
        row.state, row.reason, row.forgiven, row.changed_at = after, reason, False, func.now()


async def image_of(session: AsyncSession, device_id: int, running_sha256: str | None) -> str | None:
    """Return the image that a rollout wants a device to have, or None if that is its model's business."""
    rows = await session.execute(
        select(Rollout.sha256, Rollout.state, RolloutDevice.state)
        .join(RolloutDevice, RolloutDevice.rollout_id == Rollout.id)
        .where(RolloutDevice.device_id == device_id, Rollout.in_force, Rollout.sha256.is_not(None))
        .order_by(Rollout.id.desc())
    )
    decided = set()
    for sha256, state, stand in rows:
        # Of rollouts of one image, the newest decides, as it does in `note`.
        if sha256 not in decided and rollout_domain.binds(
            State(state), Stand(stand), runs_it=sha256 == running_sha256
        ):
            return str(sha256)
        decided.add(sha256)
    return None


async def was_skipped(session: AsyncSession, device_id: int, sha256: str) -> bool:
    """Say whether the newest rollout of an image left a device out: it may not go on fetching it."""
    stand = await session.scalar(
        select(RolloutDevice.state)
        .join(Rollout, Rollout.id == RolloutDevice.rollout_id)
        .where(RolloutDevice.device_id == device_id, Rollout.sha256 == sha256)
        .order_by(RolloutDevice.rollout_id.desc())
        .limit(1)
    )
    return stand == Stand.SKIPPED


async def in_rollout(session: AsyncSession, sha256: str) -> int | None:
    """Return the newest rollout that needs an image: it is open, or devices have the image by it."""
    has_it = exists().where(
        RolloutDevice.rollout_id == Rollout.id,
        or_(
            RolloutDevice.state.in_([Stand.TAKEN, Stand.CONFIRMED]),
            and_(Rollout.state == State.COMPLETED, RolloutDevice.state == Stand.WAITING),
        ),
    )
    return await session.scalar(
        select(func.max(Rollout.id)).where(Rollout.sha256 == sha256, or_(_OPEN, and_(Rollout.in_force, has_it)))
    )


async def give_way(session: AsyncSession, model: DeviceModel) -> bool:
    """End the say of a model's rollouts, as it gets an image, and return whether there was one.

    Raise ConflictError while one is open.
    """
    opened = await session.scalar(select(func.max(Rollout.id)).where(Rollout.model_id == model.id, _OPEN))
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


async def end(session: AsyncSession, rollout: Rollout) -> None:
    """Free the devices of a rollout that has ended for another."""
    await session.execute(
        update(RolloutDevice)
        .where(RolloutDevice.rollout_id == rollout.id, RolloutDevice.live)
        .values(live=False)
        .execution_options(synchronize_session=False)
    )


async def forgive(session: AsyncSession, rollout: Rollout) -> int:
    """Let the failures so far count no more, and return how many there are."""
    forgiven = await session.scalars(
        update(RolloutDevice)
        .where(
            RolloutDevice.rollout_id == rollout.id,
            RolloutDevice.state.in_(FAILURES),
            RolloutDevice.forgiven.is_(False),
        )
        .values(forgiven=True)
        .returning(RolloutDevice.device_id)
        .execution_options(synchronize_session=False)
    )
    return len(forgiven.all())


async def client_ids(session: AsyncSession, device_ids: Sequence[int]) -> list[str]:
    """Return the client ids of these devices."""
    rows = await session.execute(
        select(DeviceModel.code, Device.key)
        .join(Device, Device.model_id == DeviceModel.id)
        .where(Device.id.in_(device_ids))
    )
    return [names.client_id(*row) for row in rows]


async def offer(session: AsyncSession, device_ids: Iterable[int], sha256: str) -> None:
    """Note that the image is offered to these devices; what they have begun goes on where it is."""
    rows = [{"device_id": one, "sha256": sha256, "stage": domain.OFFERED} for one in device_ids]
    statement = insert(FirmwareDelivery).values(rows)
    await session.execute(
        statement.on_conflict_do_update(
            index_elements=[FirmwareDelivery.device_id, FirmwareDelivery.sha256],
            set_={"stage": domain.OFFERED, "percent": None, "error": None, "updated_at": func.now()},
            where=FirmwareDelivery.stage.in_(domain.ENDS),
        )
    )


async def count_stands(session: AsyncSession) -> dict[str, int]:
    """Return how many devices of the open rollouts stand how."""
    rows = await session.execute(
        select(RolloutDevice.state, func.count()).where(RolloutDevice.live).group_by(RolloutDevice.state)
    )
    return {**dict.fromkeys(Stand, 0), **dict(rows.tuples().all())}
