"""Run times of the schedule, without I/O.

Croniter computes on local times without a zone, and the zone is applied here: given aware times, it is an hour
early or runs twice on the days around a change of the clocks.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from itertools import islice
from zoneinfo import ZoneInfo

from croniter import croniter


@dataclass(frozen=True, slots=True)
class Schedule:
    """A cron expression of five fields, in the local time of an IANA zone; all instants in and out are UTC.

    A local time that does not exist runs at the next instant that does, one that occurs twice runs once.
    """

    expression: str
    zone: str

    def runs(self, after: datetime) -> Iterator[datetime]:
        """Return all runs after this instant, strictly rising."""
        passed = after
        times = croniter(self.expression, _local(after, self._info), ret_type=datetime)
        while True:
            run_at = _instant(times.get_next(), self._info)
            if run_at > passed:
                passed = run_at
                yield run_at

    def upcoming(self, count: int, after: datetime) -> list[datetime]:
        """Return the next `count` runs after this instant."""
        return list(islice(self.runs(after), count))

    def latest(self, now: datetime) -> datetime:
        """Return the last run that is not later than `now`."""
        # While an hour occurs for the second time, all its runs are done, also those later on the clock.
        start = _local(now, self._info) + _overlap(now, self._info) + timedelta(seconds=1)
        times = croniter(self.expression, start, ret_type=datetime)
        while (run_at := _instant(times.get_prev(), self._info)) > now:
            pass
        return run_at

    def due(self, last: datetime, now: datetime, grace: timedelta) -> datetime | None:
        """Return the run that is due at `now` when all up to `last` are done; of several, only the latest."""
        run_at = self.latest(now)
        return run_at if last < run_at and now - run_at <= grace else None

    @property
    def _info(self) -> ZoneInfo:
        return ZoneInfo(self.zone)


def _local(instant: datetime, zone: ZoneInfo) -> datetime:
    """Return the local time, in whole seconds."""
    return instant.astimezone(zone).replace(tzinfo=None, microsecond=0)


def _overlap(instant: datetime, zone: ZoneInfo) -> timedelta:
    """Return by how much the clock was set back, if it shows the local time of this instant twice."""
    local = instant.astimezone(zone)
    return max(_offset(local.replace(fold=0)) - _offset(local.replace(fold=1)), timedelta())


def _instant(local: datetime, zone: ZoneInfo) -> datetime:
    """Return the first instant at which the clock shows this local time or, if it never does, is beyond it."""
    first, second = local.replace(tzinfo=zone, fold=0), local.replace(tzinfo=zone, fold=1)
    if _offset(first) >= _offset(second):
        return first.astimezone(UTC)
    # In a gap, the offset before the change gives an instant after it, and the other offset one before it.
    seconds = range(int(second.timestamp()), int(first.timestamp()))
    changed = bisect_left(seconds, _offset(second), key=lambda at: _offset(datetime.fromtimestamp(at, zone)))
    return datetime.fromtimestamp(seconds.start + changed, UTC)


def _offset(local: datetime) -> timedelta:
    offset = local.utcoffset()
    if offset is None:
        raise ValueError("a local time without a zone has no offset")
    return offset
