"""Queries on the status of devices in rollouts."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from datetime import datetime, timedelta
from typing import Final, NamedTuple

from sqlalchemy import (
    ARRAY,
    BigInteger,
    ColumnElement,
    Text,
    any_,
    bindparam,
    func,
    literal,
    select,
    update,
)
from sqlalchemy.dialects.postgresql import insert
from sqlalchemy.ext.asyncio import AsyncSession

from services.firmware import rules
from services.firmware.assignment import rollout_states
from services.firmware.assignment.rollout_states import (
    FAILURES,
    UNDER_WAY,
    DeviceStatus,
    DeviceStep,
    WaveTally,
)
from shared.database import device_refs
from shared.database.arrays import one_of
from shared.database.tables import (
    Device,
    DeviceModel,
    FirmwareDelivery,
    Rollout,
    RolloutDevice,
)
from shared.protocol import admin

# Built once: building a statement takes as long as executing it.
_NEWEST: Final = (
    select(RolloutDevice, Rollout.sha256)
    .join(Rollout, Rollout.id == RolloutDevice.rollout_id)
    .where(
        RolloutDevice.device_id == any_(bindparam("device_ids", type_=ARRAY(BigInteger))),
        Rollout.sha256 == any_(bindparam("sha256s", type_=ARRAY(Text))),
    )
    # Always in the same order: two batches that lock the same rows must not deadlock.
    .order_by(RolloutDevice.device_id, RolloutDevice.rollout_id)
    .with_for_update(of=RolloutDevice)
)


async def tallies(session: AsyncSession, rollout: Rollout) -> dict[int, WaveTally]:
    """Return the tallies of the open waves."""
    rows = await session.execute(
        select(RolloutDevice.wave, RolloutDevice.state, RolloutDevice.forgiven, func.count())
        .where(RolloutDevice.rollout_id == rollout.id, RolloutDevice.wave.between(1, rollout.wave))
        .group_by(RolloutDevice.wave, RolloutDevice.state, RolloutDevice.forgiven)
    )
    waves: dict[int, list[tuple[DeviceStatus, bool, int]]] = {}
    for wave, state, forgiven, count in rows:
        waves.setdefault(wave, []).append((DeviceStatus(state), forgiven, count))
    return {wave: rollout_states.tally(counts) for wave, counts in waves.items()}


async def counts(session: AsyncSession, rollout: Rollout) -> dict[int, dict[str, int]]:
    """Return the number of devices in each status, by wave."""
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
    query = (
        device_refs.owned(RolloutDevice)
        .where(RolloutDevice.rollout_id == rollout.id, RolloutDevice.state.in_(FAILURES | {DeviceStatus.SKIPPED}))
        .order_by(
            RolloutDevice.state == DeviceStatus.SKIPPED, RolloutDevice.changed_at.desc(), RolloutDevice.device_id
        )
        .limit(admin.MAX_NAMED)
    )
    return [
        admin.RolloutFailure.from_row(row, client_id=client_id, at=row.changed_at)
        for row, client_id in await device_refs.with_client_ids(session, query)
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
    step: DeviceStep,
    condition: ColumnElement[bool],
    *,
    reason: str | None = None,
    **also: object,
) -> list[int]:
    """Apply a step to the selected devices of a rollout, and return the devices that it changed."""
    before, after = rollout_states.effect(step)
    values = {"state": after, "reason": reason, "changed_at": func.now(), **also}
    if after is DeviceStatus.SKIPPED:
        values["live"] = False
    changed = await session.scalars(
        update(RolloutDevice)
        .where(RolloutDevice.rollout_id == rollout.id, RolloutDevice.state.in_(before), condition)
        .values(**values)
        .returning(RolloutDevice.device_id)
        .execution_options(synchronize_session=False)
    )
    return list(changed)


class ImageStep(NamedTuple):
    """A step of a device with an image, and its reason."""

    device_id: int
    sha256: str
    step: DeviceStep
    reason: str | None = None


async def record(session: AsyncSession, steps: Sequence[ImageStep]) -> None:
    """Apply steps to devices, each in the newest rollout of the image, if there is one."""
    images = [one.sha256 for one in steps]
    found = await session.execute(_NEWEST, {"device_ids": [one.device_id for one in steps], "sha256s": images})
    newest = {(row.device_id, sha256): row for row, sha256 in found}
    for device_id, sha256, step, reason in steps:
        row = newest.get((device_id, sha256))
        if row is None:
            continue
        after = rollout_states.status_after(DeviceStatus(row.state), step)
        if after != row.state:
            row.state, row.reason, row.forgiven, row.changed_at = after, reason, False, func.now()


async def was_skipped(session: AsyncSession, device_id: int, sha256: str) -> bool:
    """Return whether the newest rollout of an image left a device out, so that it must not continue fetching."""
    state = await session.scalar(
        select(RolloutDevice.state)
        .join(Rollout, Rollout.id == RolloutDevice.rollout_id)
        .where(RolloutDevice.device_id == device_id, Rollout.sha256 == sha256)
        .order_by(RolloutDevice.rollout_id.desc())
        .limit(1)
    )
    return state == DeviceStatus.SKIPPED


async def offer(session: AsyncSession, device_ids: Iterable[int], sha256: str) -> None:
    """Record that the image is offered to these devices; progress of earlier offers is kept."""
    device = func.unnest(literal(list(device_ids), ARRAY(BigInteger)))
    new = select(device, literal(sha256), literal(rules.OFFERED))
    await session.execute(
        insert(FirmwareDelivery)
        .from_select(["device_id", "sha256", "stage"], new)
        .on_conflict_do_update(
            index_elements=[FirmwareDelivery.device_id, FirmwareDelivery.sha256],
            set_={"stage": rules.OFFERED, "percent": None, "error": None, "updated_at": func.now()},
            where=FirmwareDelivery.stage.in_(rules.ENDS | {rules.WITHHELD}),
        )
    )


async def forgive(session: AsyncSession, rollout: Rollout) -> int:
    """Exempt the failures so far from the limit, and return their number."""
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


async def end(session: AsyncSession, rollout: Rollout) -> None:
    """Free the devices of a rollout that has ended for another one."""
    await session.execute(
        update(RolloutDevice)
        .where(RolloutDevice.rollout_id == rollout.id, RolloutDevice.live)
        .values(live=False)
        .execution_options(synchronize_session=False)
    )


async def client_ids(session: AsyncSession, device_ids: Sequence[int]) -> list[str]:
    """Return the client ids of these devices."""
    rows = await session.execute(
        select(DeviceModel.code, Device.key)
        .join(Device, Device.model_id == DeviceModel.id)
        .where(one_of(Device.id, device_ids))
    )
    return [device_refs.client_id(*row) for row in rows]


async def count_statuses(session: AsyncSession) -> dict[str, int]:
    """Return the number of devices in open rollouts, by status."""
    rows = await session.execute(
        select(RolloutDevice.state, func.count()).where(RolloutDevice.live).group_by(RolloutDevice.state)
    )
    return {**dict.fromkeys(DeviceStatus, 0), **dict(rows.all())}


async def confirm(session: AsyncSession, device_ids: Sequence[int], sha256: str) -> None:
    """Record that these devices have confirmed the image, although their report was lost."""
    await session.execute(
        update(FirmwareDelivery)
        .where(one_of(FirmwareDelivery.device_id, device_ids), FirmwareDelivery.sha256 == sha256)
        .values(stage="confirmed", percent=None, error=None, updated_at=func.now())
        .execution_options(synchronize_session=False)
    )
