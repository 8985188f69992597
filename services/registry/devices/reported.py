"""What a device reports of itself, and since when it runs."""

from __future__ import annotations

from datetime import datetime, timedelta
from typing import Any, Final, NamedTuple

from sqlalchemy import Integer, Text, func, literal, select
from sqlalchemy.ext.asyncio import AsyncSession

from shared.database.tables import VITAL_FIELDS, Presence, VitalHour

_UPTIME: Final = "uptime_s"
_LONGEST_S: Final = 50 * 365 * 24 * 3600
"""A longer uptime is no uptime."""
_OF_STATUS: Final = ("rssi_dbm", "ip", "chip", "reset_reason")


class Uptime(NamedTuple):
    """How long a device had been running at a time, by its own clock."""

    at: datetime
    seconds: float


async def uptime(session: AsyncSession, device_id: int) -> Uptime | None:
    """Return the last uptime among the vitals of a device."""
    names = func.string_to_array(VitalHour.names, " ")
    place = func.array_position(names, literal(_UPTIME, Text), type_=Integer)
    end = place * VITAL_FIELDS
    last, second = VitalHour.numbers[end - 1], VitalHour.numbers[end]
    query = (
        select(VitalHour.hour, last, second)
        .where(VitalHour.device_id == device_id, place.is_not(None))
        .order_by(VitalHour.hour.desc())
        .limit(1)
    )
    found = (await session.execute(query)).one_or_none()
    if found is None:
        return None
    hour, seconds, received_s = found
    return Uptime(hour + timedelta(seconds=received_s), seconds)


def facts(presence: Presence, said: Uptime | None) -> dict[str, Any]:
    """Return what is known of a device by its last status, and since when it runs."""
    status = presence.status or {}
    return {
        **{name: status.get(name) for name in _OF_STATUS},
        "secret_generation_reported": presence.secret_generation,
        "up_since": up_since(presence, said),
    }


def up_since(presence: Presence, said: Uptime | None) -> datetime | None:
    """Return since when a device runs: by its own uptime, unless it may have started since it reported that."""
    if not presence.online:
        return None
    # A device that reports no number of its start may have started whenever it was not connected.
    started_at = presence.booted_at or presence.left_at
    is_valid = said is not None and 0 <= said.seconds <= _LONGEST_S
    if said is not None and is_valid and (started_at is None or said.at >= started_at):
        return said.at - timedelta(seconds=said.seconds)
    return presence.booted_at
