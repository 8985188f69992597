"""When everything is compared: rarely where that takes long, and by one of the replicas."""

from __future__ import annotations

from datetime import timedelta
from typing import Final

from sqlalchemy import func, update

from shared.database.engine import Database
from shared.database.tables import InstanceRow

LEAST: Final = timedelta(minutes=5)
PAUSE: Final = 150
"""A comparison waits for one request after the other, so it takes less than 1 % of a core in the long run."""
_LONGEST: Final = timedelta(days=1)
"""If a replica ends while it compares, another one does after so long; its own next start does too."""


def interval(took: timedelta, wanted_s: float | None) -> timedelta:
    """Return the time from the end of a comparison that took so long to the next."""
    return max(LEAST, took * PAUSE) if wanted_s is None else timedelta(seconds=wanted_s)


async def claim(database: Database, *, at_once: bool) -> bool:
    """Return whether this replica is to compare everything now, as nobody else does, or `at_once` anyway."""
    due = update(InstanceRow).values(compare_at=func.now() + _LONGEST).returning(InstanceRow.id)
    if not at_once:
        due = due.where(InstanceRow.compare_at <= func.now())
    async with database.transaction() as session:
        return await session.scalar(due) is not None


async def compared(database: Database, *, next_in: timedelta) -> None:
    """Store that everything was compared, and when it is next."""
    async with database.transaction() as session:
        await session.execute(update(InstanceRow).values(compare_at=func.now() + next_in))
