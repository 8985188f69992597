"""What is stored of vitals, and how it is shown."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from itertools import pairwise

from services.firmware.diagnostics import vital_hours
from services.firmware.diagnostics.vital_hours import NAMES_MAX, StoredHour, Stretch, Summary

AT = datetime(2026, 11, 30, 12, 0, 7, 5, tzinfo=UTC)


def test_an_hour_has_the_range_the_sum_and_the_last_of_its_numbers() -> None:
    hour: StoredHour | None = None
    for second, number in enumerate((5.0, -1.5, 2.25)):
        at = AT + timedelta(minutes=second)
        hour, too_many = vital_hours.added(hour, {"t_celsius": number}, version="1.0.0", at=at)
        assert too_many == []
    assert hour == StoredHour("1.0.0", {"t_celsius": Summary(3, -1.5, 5.75 / 3, 5.0, 2.25, 127)})


def test_a_message_with_other_names_keeps_what_is_there() -> None:
    hour, _ = vital_hours.added(None, {"a": 1}, version=None, at=AT)
    hour, _ = vital_hours.added(hour, {"b": 2}, version=None, at=AT)
    assert {name: it.last for name, it in hour.vitals.items()} == {"a": 1, "b": 2}


def test_an_hour_in_which_other_firmware_begins_is_of_that_alone() -> None:
    before, _ = vital_hours.added(None, {"heap_free_bytes": 90_000}, version="1.0.0", at=AT)
    after, _ = vital_hours.added(before, {"heap_free_bytes": 40_000}, version="1.1.0", at=AT)
    assert after == StoredHour("1.1.0", {"heap_free_bytes": Summary.of(40_000, AT)})


def test_names_beyond_the_limit_are_left_out_of_the_hour_and_named() -> None:
    first, _ = vital_hours.added(None, {f"v{number}": 0 for number in range(NAMES_MAX)}, version=None, at=AT)
    after, too_many = vital_hours.added(first, {"v0": 5, "one_more": 1}, version=None, at=AT)
    assert (len(after.vitals), after.vitals["v0"].high, too_many) == (NAMES_MAX, 5, ["one_more"])


def test_the_mean_of_equal_numbers_is_that_number() -> None:
    hour: StoredHour | None = None
    for _ in range(12):
        hour, _ = vital_hours.added(hour, {"t": 0.1}, version=None, at=AT)
    assert hour is not None
    assert hour.vitals["t"].mean == 0.1
    assert vital_hours.joined([hour.vitals["t"]] * 7).mean == 0.1


def stretch(hours: int, number: float, version: str | None = None) -> Stretch:
    at = vital_hours.begin(AT) + timedelta(hours=hours)
    return Stretch(at, version, Summary.of(number, at))


def test_few_hours_are_shown_as_they_are() -> None:
    hours = [stretch(0, 1), stretch(1, 2), stretch(9, 3)]
    assert vital_hours.thinned(hours) == hours
    assert vital_hours.thinned([]) == []


def test_many_hours_become_equal_parts_with_their_extremes() -> None:
    hours = [stretch(number, -1000 if number == 5 else number) for number in range(720)]
    points = vital_hours.thinned(hours, most=100)
    assert len(points) == 90
    assert {(one.at - other.at) for other, one in pairwise(points)} == {timedelta(hours=8)}
    assert (points[0].summary.low, points[0].summary.high, points[0].summary.numbers) == (-1000, 7, 8)
    assert points[-1].summary.last == 719


def test_parts_without_numbers_are_left_out_and_a_part_has_the_last_firmware() -> None:
    hours = [stretch(0, 1, "1.0.0"), stretch(1, 2, "1.1.0"), stretch(100, 3, "1.2.0")]
    points = vital_hours.thinned(hours, most=10)
    assert [(it.version, it.summary.numbers) for it in points] == [("1.1.0", 2), ("1.2.0", 1)]
