"""Whether a device is online, asleep or offline: the only place that decides it.

The registry writes the rows, at each status and when a device is overdue; all services read them.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any, Final

from sqlalchemy import ColumnElement, DateTime, Interval, and_, case, func, literal, not_
from sqlalchemy.ext.asyncio import AsyncSession

from shared.database.outbox import Outbox
from shared.database.tables import Presence
from shared.protocol import events
from shared.protocol.admin import PresenceState
from shared.protocol.messages import MAX_WAKE_INTERVAL_S

LEAST_GRACE_S: Final = 60
"""A board that wakes up often may need some attempts until it is connected."""
ASLEEP: Final[ColumnElement[bool]] = Presence.asleep_until.is_not(None)
OFFLINE: Final[ColumnElement[bool]] = and_(not_(Presence.online), Presence.asleep_until.is_(None))
STATE: Final[ColumnElement[PresenceState]] = case((Presence.online, "online"), (ASLEEP, "asleep"), else_="offline")
_SECOND: Final = literal(timedelta(seconds=1), Interval())
INTERVAL: Final[ColumnElement[Any]] = func.coalesce(Presence.wake_interval_s, 0) * _SECOND
"""The time between two wake-ups of a device; zero for one that does not sleep."""
WAS_SEEN: Final[ColumnElement[bool]] = Presence.last_seen_at.is_not(None)
SEEN_AT: Final[ColumnElement[Any]] = func.greatest(
    Presence.last_seen_at, Presence.left_at, type_=DateTime(timezone=True)
)
"""As `seen_at`, of a device that has no connection."""
_PATIENCE: Final[ColumnElement[Any]] = (
    Presence.wake_interval_s + func.greatest(Presence.wake_interval_s // 2, LEAST_GRACE_S)
) * _SECOND
"""As `patience`; null for a device that does not sleep."""


@dataclass(slots=True)
class Connected:
    """What a presence has of a device's connection: the columns of these names, and the `boot` of its status."""

    device_id: int
    online: bool = False
    last_seen_at: datetime | None = None
    left_at: datetime | None = None
    wake_interval_s: int | None = None
    asleep_until: datetime | None = None
    booted_at: datetime | None = None
    boot: int | None = None


def patience(wake_interval_s: int) -> timedelta:
    """Return how long a device that sleeps may be away: its wake interval, and a grace of half of it."""
    return timedelta(seconds=wake_interval_s + max(wake_interval_s // 2, LEAST_GRACE_S))


def asleep_until(left_at: datetime) -> ColumnElement[datetime]:
    """Return the value of `asleep_until` for devices that left at this time; null if they do not sleep."""
    return literal(left_at, DateTime(timezone=True)) + _PATIENCE


def state(presence: Presence | Connected) -> PresenceState:
    """Return whether a device is online, asleep, or offline, as a sleeper is that has not come back in time."""
    if presence.online:
        return "online"
    return "offline" if presence.asleep_until is None else "asleep"


def seen_at(presence: Presence | Connected, now: datetime) -> datetime | None:
    """Return when a device was last known to be connected; None if it was never seen."""
    if presence.online or presence.last_seen_at is None:
        return now if presence.online else None
    return max(presence.last_seen_at, presence.left_at or presence.last_seen_at)


def leave(presence: Presence | Connected, at: datetime, *, asleep: bool = False) -> None:
    """Record that a device has no connection any more; one that has a wake interval is asleep from then on.

    `asleep`: it has reported so; without an interval something else will wake it, such as a button.
    """
    interval_s = presence.wake_interval_s or (MAX_WAKE_INTERVAL_S if asleep else None)
    presence.online, presence.left_at = False, at
    presence.asleep_until = None if interval_s is None else at + patience(interval_s)


def emit_left(outbox: Outbox, session: AsyncSession, client_id: str, asleep_until: datetime | None) -> None:
    """Emit the event that a device is asleep, or offline."""
    if asleep_until is None:
        outbox.emit(session, events.DEVICE_OFFLINE, client_id, events.NoFacts())
    else:
        facts = events.AsleepFacts(until=asleep_until)
        outbox.emit(session, events.DEVICE_ASLEEP, client_id, facts, kept=False)
