"""Queries on the state of devices' credentials."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping
from datetime import datetime, timedelta
from typing import Final, NamedTuple

from sqlalchemy import func, not_, select, update
from sqlalchemy.ext.asyncio import AsyncSession

from shared.database import device_refs, presences
from shared.database.tables import Device, DeviceModel, Presence, Rotation


class Left(NamedTuple):
    """A device that has no connection any more, and until when it is asleep; None: it is offline."""

    client_id: str
    asleep_until: datetime | None


_PRESENCES: Final = (
    device_refs.owned(Presence)
    .where(device_refs.AMONG, Device.lifecycle == "ACTIVE")
    # Always in the same order: two transactions that lock the same rows must not deadlock.
    .order_by(Presence.device_id)
    .with_for_update(of=Presence)
)


async def claim_due(session: AsyncSession, *, limit: int, again_at: datetime) -> list[str]:
    """Return up to `limit` devices that are due for comparison, by client id; due again at `again_at`."""
    due = (
        select(Device.id)
        .where(Device.verify_at <= func.now(), Device.lifecycle == "ACTIVE")
        .order_by(Device.verify_at)
        .limit(limit)
        .with_for_update(skip_locked=True)
    )
    rows = await session.execute(
        update(Device)
        .where(Device.id.in_(due.scalar_subquery()), DeviceModel.id == Device.model_id)
        .values(verify_at=again_at)
        .returning(DeviceModel.code, Device.key)
        .execution_options(synchronize_session=False)
    )
    return [device_refs.client_id(code, key) for code, key in rows]


async def is_switching(session: AsyncSession, device_id: int) -> bool:
    """Return whether a rotation of a device has reached a step that changes Keycloak and the broker."""
    early = Rotation.step.in_(["OFFERED", "DELIVERED"])
    query = select(Rotation.device_id).where(
        Rotation.device_id == device_id, Rotation.outcome.is_(None), not_(early)
    )
    return await session.scalar(query) is not None


async def record_refusals(session: AsyncSession, refused_at: Mapping[str, datetime]) -> list[str]:
    """Record when the broker last refused each device; return those refused for the first time since last seen."""
    rows = await session.execute(_PRESENCES, {"keys": device_refs.keys(refused_at)})
    fresh = []
    for presence, code, key in rows:
        client_id = device_refs.client_id(code, key)
        if client_id not in refused_at:
            continue
        earlier, seen = presence.refused_at, presence.last_seen_at
        if earlier is None or (seen is not None and earlier <= seen):
            fresh.append(client_id)
        presence.refused_at = refused_at[client_id]
    return fresh


async def record_clashes(
    session: AsyncSession,
    clashed_at: Mapping[str, datetime],
    *,
    window: timedelta,
    is_numbered: Callable[[str], bool],
) -> list[str]:
    """Record when two boards last used each identity; return those for which this begins.

    Not of a board whose number is stored but not known here, as an earlier run or another replica received it.
    """
    rows = await session.execute(_PRESENCES, {"keys": device_refs.keys(clashed_at)})
    fresh = []
    for presence, code, key in rows:
        client_id = device_refs.client_id(code, key)
        at = clashed_at.get(client_id)
        if at is None or ((presence.status or {}).get("boot") is not None and not is_numbered(client_id)):
            continue
        if presence.clashed_at is None or presence.clashed_at < at - window:
            fresh.append(client_id)
        presence.clashed_at = at
    return fresh


async def verify_at(session: AsyncSession, client_ids: Collection[str], at: datetime) -> None:
    """Schedule the comparison of devices; those that are being changed are compared after the change anyway."""
    free = select(Device.id).where(device_refs.AMONG).with_for_update(skip_locked=True)
    await session.execute(
        update(Device)
        .where(Device.id.in_(free.scalar_subquery()))
        .values(verify_at=at)
        .execution_options(synchronize_session=False),
        {"keys": device_refs.keys(client_ids)},
    )


async def record_dropped(session: AsyncSession, dropped_at: Mapping[str, datetime]) -> list[Left]:
    """Mark devices that the broker has dropped and that have been silent since; return these."""
    rows = await session.execute(_PRESENCES, {"keys": device_refs.keys(dropped_at)})
    gone = []
    for presence, code, key in rows:
        client_id = device_refs.client_id(code, key)
        at = dropped_at.get(client_id)
        if at is not None and presence.online and (presence.last_seen_at is None or presence.last_seen_at < at):
            presences.leave(presence, at)
            gone.append(Left(client_id, presence.asleep_until))
    return gone


async def mark_silent(session: AsyncSession, *, since: datetime) -> list[Left]:
    """Mark all devices that have been silent since the broker's start, which ended all connections."""
    rows = await session.execute(
        update(Presence)
        .where(
            Presence.online,
            Presence.last_seen_at < since,
            Device.id == Presence.device_id,
            DeviceModel.id == Device.model_id,
        )
        .values(online=False, left_at=since, asleep_until=presences.asleep_until(since))
        .returning(DeviceModel.code, Device.key, Presence.asleep_until)
        .execution_options(synchronize_session=False)
    )
    return [Left(device_refs.client_id(code, key), asleep_until) for code, key, asleep_until in rows]
