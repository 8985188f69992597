from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from itertools import pairwise, takewhile
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given
from hypothesis import strategies as st

from services.rotator.cron import Schedule

DAY = timedelta(days=1)
BERLIN, NEW_YORK, LORD_HOWE, APIA = "Europe/Berlin", "America/New_York", "Australia/Lord_Howe", "Pacific/Apia"
MEANINGS: dict[str, Callable[[datetime], bool]] = {
    "0 8 * * 6#1": lambda at: (at.hour, at.minute, at.isoweekday()) == (8, 0, 6) and at.day <= 7,
    "30 2 * * *": lambda at: (at.hour, at.minute) == (2, 30),
    "*/20 * * * *": lambda at: at.minute % 20 == 0,
    "0 * * * *": lambda at: at.minute == 0,
    "15 1-3 * * 0": lambda at: at.minute == 15 and 1 <= at.hour <= 3 and at.isoweekday() == 7,
    "59 23 31 * *": lambda at: (at.day, at.hour, at.minute) == (31, 23, 59),
}
CHANGES = {
    "UTC": ["2026-01-01 00:00"],
    BERLIN: ["2026-03-29 01:00", "2026-10-25 01:00"],
    NEW_YORK: ["2026-03-08 07:00", "2026-11-01 06:00"],
    LORD_HOWE: ["2026-10-03 15:30", "2026-04-04 15:00"],
    APIA: ["2011-12-30 10:00"],
}
"""When the clocks change, in UTC."""


@dataclass(frozen=True, slots=True)
class Moment:
    """A schedule, and an instant: any, or one about a change of the zone's clocks."""

    schedule: Schedule
    at: datetime


@st.composite
def moments(draw: st.DrawFn) -> Moment:
    zone = draw(st.sampled_from(sorted(CHANGES)))
    near = st.builds(
        lambda change, apart: utc(change) + apart,
        st.sampled_from(CHANGES[zone]),
        st.timedeltas(timedelta(hours=-30), timedelta(hours=6)),
    )
    far = st.datetimes(datetime(2011, 12, 1), datetime(2030, 1, 1), timezones=st.just(UTC))  # noqa: DTZ001 - hypothesis adds the zone
    return Moment(Schedule(draw(st.sampled_from(sorted(MEANINGS))), zone), draw(st.one_of(near, far)))


def utc(text: str) -> datetime:
    return datetime.fromisoformat(text).replace(tzinfo=UTC)


def local(fires: list[datetime], zone: str) -> list[str]:
    return [fire.astimezone(ZoneInfo(zone)).isoformat(" ", "minutes") for fire in fires]


@pytest.mark.parametrize(
    ("expression", "zone", "after", "expected"),
    [
        ("0 8 * * 6#1", "UTC", "2026-08-01 07:59", ["2026-08-01 08:00+00:00", "2026-09-05 08:00+00:00"]),
        ("0 8 * * 6#1", "UTC", "2026-08-01 08:00", ["2026-09-05 08:00+00:00", "2026-10-03 08:00+00:00"]),
        ("0 8 * * 6#1", BERLIN, "2026-10-01", ["2026-10-03 08:00+02:00", "2026-11-07 08:00+01:00"]),
        ("0 8 29 2 *", "UTC", "2026-01-01", ["2028-02-29 08:00+00:00", "2032-02-29 08:00+00:00"]),
        ("0 8 29 2 *", "UTC", "2096-03-01", ["2104-02-29 08:00+00:00", "2108-02-29 08:00+00:00"]),
        ("0 0 31 * *", "UTC", "2026-03-31", ["2026-05-31 00:00+00:00", "2026-07-31 00:00+00:00"]),
        ("0 8 1 * 1", "UTC", "2026-05-26", ["2026-06-01 08:00+00:00", "2026-06-08 08:00+00:00"]),
        # The clock goes from 2:00 to 3:00 on 29 March.
        (
            "30 2 * * *",
            BERLIN,
            "2026-03-28",
            ["2026-03-28 02:30+01:00", "2026-03-29 03:00+02:00", "2026-03-30 02:30+02:00"],
        ),
        ("0 2,3 * * *", BERLIN, "2026-03-29", ["2026-03-29 03:00+02:00", "2026-03-30 02:00+02:00"]),
        (
            "*/30 * * * *",
            BERLIN,
            "2026-03-29 00:15",
            ["2026-03-29 01:30+01:00", "2026-03-29 03:00+02:00", "2026-03-29 03:30+02:00"],
        ),
        ("0 8 * * *", BERLIN, "2026-03-28 06:00", ["2026-03-28 08:00+01:00", "2026-03-29 08:00+02:00"]),
        # It goes from 3:00 back to 2:00 on 25 October.
        ("30 2 * * *", BERLIN, "2026-10-24 12:00", ["2026-10-25 02:30+02:00", "2026-10-26 02:30+01:00"]),
        ("30 2 * * *", BERLIN, "2026-10-25 00:45", ["2026-10-26 02:30+01:00"]),
        (
            "30 * * * *",
            BERLIN,
            "2026-10-24 23:00",
            ["2026-10-25 01:30+02:00", "2026-10-25 02:30+02:00", "2026-10-25 03:30+01:00"],
        ),
        ("0 8 * * *", BERLIN, "2026-10-24 07:00", ["2026-10-25 08:00+01:00", "2026-10-26 08:00+01:00"]),
        # From 2:00 to 3:00 on 8 March, from 2:00 back to 1:00 on 1 November.
        ("30 2 * * *", NEW_YORK, "2026-03-08", ["2026-03-08 03:00-04:00", "2026-03-09 02:30-04:00"]),
        ("30 1 * * *", NEW_YORK, "2026-11-01", ["2026-11-01 01:30-04:00", "2026-11-02 01:30-05:00"]),
        ("0 6 * * *", NEW_YORK, "2026-03-08", ["2026-03-08 06:00-04:00", "2026-03-09 06:00-04:00"]),
        # From 2:00 to 2:30 on 4 October, from 2:00 back to 1:30 on 5 April.
        (
            "15 2 * * *",
            LORD_HOWE,
            "2026-10-03",
            ["2026-10-04 02:30+11:00", "2026-10-05 02:15+11:00"],
        ),
        ("45 1 * * *", LORD_HOWE, "2026-04-04", ["2026-04-05 01:45+11:00", "2026-04-06 01:45+10:30"]),
        ("15 1 * * *", LORD_HOWE, "2026-04-04", ["2026-04-05 01:15+11:00", "2026-04-06 01:15+10:30"]),
        # There was no 30 December.
        ("0 8 * * *", APIA, "2011-12-29 18:30", ["2011-12-31 00:00+14:00", "2011-12-31 08:00+14:00"]),
    ],
)
def test_it_fires_at_the_local_time(expression: str, zone: str, after: str, expected: list[str]) -> None:
    fires = Schedule(expression, zone).upcoming(len(expected), utc(after))
    assert local(fires, zone) == expected
    assert {fire.tzinfo for fire in fires} == {UTC}


@pytest.mark.parametrize(
    ("expression", "zone", "now", "expected"),
    [
        ("0 8 * * 6#1", "UTC", "2026-08-01 08:00", "2026-08-01 08:00+00:00"),
        ("0 8 * * 6#1", "UTC", "2026-08-01 07:59:59.999999", "2026-07-04 08:00+00:00"),
        ("0 8 29 2 *", "UTC", "2027-12-31", "2024-02-29 08:00+00:00"),
        ("30 2 * * *", BERLIN, "2026-03-29 00:59:59", "2026-03-28 02:30+01:00"),
        ("30 2 * * *", BERLIN, "2026-03-29 01:00", "2026-03-29 03:00+02:00"),
        # 2:15 for the second time: 2:30 has fired.
        ("30 2 * * *", BERLIN, "2026-10-25 01:15", "2026-10-25 02:30+02:00"),
        ("30 2 * * *", BERLIN, "2026-10-25 00:15", "2026-10-24 02:30+02:00"),
        ("50 1 * * *", LORD_HOWE, "2026-04-04 15:10", "2026-04-05 01:50+11:00"),
    ],
)
def test_the_latest_fire(expression: str, zone: str, now: str, expected: str) -> None:
    assert local([Schedule(expression, zone).latest(utc(now))], zone) == [expected]


@pytest.mark.parametrize(
    ("last", "now", "due"),
    [
        ("2026-08-01 08:00", "2026-08-02 07:59", None),
        ("2026-08-01 08:00", "2026-08-02 08:00", "2026-08-02 08:00"),
        ("2026-08-01 08:00", "2026-08-02 20:00", "2026-08-02 08:00"),
        ("2026-05-01 08:00", "2026-08-02 20:00", "2026-08-02 08:00"),
        ("2026-08-01 08:00", "2026-08-02 20:00:01", None),
        ("2026-08-02 08:00", "2026-08-02 20:00", None),
        ("2026-08-02 07:59", "2026-08-02 08:00", "2026-08-02 08:00"),
        # The clock went back.
        ("2026-08-02 08:00", "2026-08-02 07:00", None),
        ("2026-08-02 08:00", "2026-08-01 09:00", None),
    ],
    ids=[
        "not yet",
        "now",
        "missed, at the end of the grace",
        "many missed are one",
        "after the grace",
        "done",
        "counted from a start",
        "back before the fire",
        "back by a day",
    ],
)
def test_what_is_due(last: str, now: str, due: str | None) -> None:
    found = Schedule("0 8 * * *", "UTC").due(utc(last), utc(now), timedelta(hours=12))
    assert found == (utc(due) if due else None)


@given(moments())
def test_fires_strictly_rise_and_are_the_same_from_everywhere(moment: Moment) -> None:
    schedule = moment.schedule
    fires = schedule.upcoming(8, moment.at)
    assert fires[0] > moment.at
    for earlier, later in pairwise(fires):
        assert earlier < later
        between = earlier + (later - earlier) / 2
        assert schedule.latest(earlier) == schedule.latest(between) == earlier
        assert schedule.upcoming(1, between) == [later]


@given(moments())
def test_each_local_time_fires_once_or_at_the_end_of_a_gap(moment: Moment) -> None:
    """All that the clock on the wall shows, minute by minute, and what it leaves out."""
    zone, fits = ZoneInfo(moment.schedule.zone), MEANINGS[moment.schedule.expression]
    start = moment.at.replace(second=0, microsecond=0)
    expected, seen = [], start.astimezone(zone).replace(tzinfo=None)
    for number in range(1, 36 * 60):
        instant = start + timedelta(minutes=number)
        clock = instant.astimezone(zone)
        shown = clock.replace(tzinfo=None, fold=0)
        passed = [seen + timedelta(minutes=late) for late in range(1, (shown - seen) // timedelta(minutes=1) + 1)]
        if not clock.fold and any(fits(at) for at in passed):
            expected.append(instant)
        seen = max(seen, shown)
    assert list(takewhile(lambda fire: fire <= instant, moment.schedule.runs(start))) == expected


@given(moments(), st.lists(st.timedeltas(timedelta(hours=-30), timedelta(days=9)), max_size=15))
def test_whenever_it_wakes_no_fire_is_done_twice_and_none_within_the_grace_is_lost(
    moment: Moment, steps: list[timedelta]
) -> None:
    schedule, now, last, done = moment.schedule, moment.at, moment.at, []
    for step in steps:
        now += step
        due = schedule.due(last, now, DAY)
        if due is not None:
            assert now - DAY <= due <= now
            done.append(due)
            last = due
        latest = schedule.latest(now)
        assert latest <= max(last, now - DAY)
    assert all(earlier < later for earlier, later in pairwise([moment.at, *done]))
