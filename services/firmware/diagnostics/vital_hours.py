"""The numbers of an hour and of longer times, without I/O: what is stored of a device's vitals, and shown."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from datetime import datetime, timedelta
from itertools import groupby
from typing import Final, NamedTuple, Self

NAMES_MAX: Final = 16
"""Limit of vitals of one device in an hour: with it, a row has a bounded size, whatever the device sends."""
POINTS_MAX: Final = 400
HOUR: Final = timedelta(hours=1)


class Summary(NamedTuple):
    """What is stored of a vital in an hour: how many numbers, the lowest, their mean, the highest and the last.

    `second` is when the last was received, in seconds from the begin of the hour.
    """

    numbers: int
    low: float
    mean: float
    high: float
    last: float
    second: int

    @classmethod
    def of(cls, number: float, at: datetime) -> Self:
        """Return the summary of one number, received at a time."""
        return cls(1, number, number, number, number, (at - begin(at)).seconds)

    @classmethod
    def read(cls, stored: Sequence[float]) -> Self:
        """Return the summary of its fields as numbers of one kind."""
        numbers, low, mean, high, last, second = stored
        return cls(int(numbers), low, mean, high, last, int(second))

    def then(self, later: Summary) -> Summary:
        """Return the summary of these numbers and of later ones."""
        numbers = self.numbers + later.numbers
        return Summary(
            numbers,
            min(self.low, later.low),
            # The mean of equal numbers is the same number, as it would not be of a sum.
            self.mean + (later.mean - self.mean) * later.numbers / numbers,
            max(self.high, later.high),
            later.last,
            later.second,
        )


class StoredHour(NamedTuple):
    """The vitals of a device in an hour by name, and the firmware that it ran."""

    version: str | None
    vitals: Mapping[str, Summary]


class Added(NamedTuple):
    """An hour after a message, and the names in that message that are too many."""

    hour: StoredHour
    too_many: list[str]


class Stretch(NamedTuple):
    """The numbers of one vital in an hour, or in several; `version` is the firmware that ran last."""

    at: datetime
    version: str | None
    summary: Summary


def begin(at: datetime) -> datetime:
    """Return the begin of the hour of a time."""
    return at.replace(minute=0, second=0, microsecond=0)


def added(before: StoredHour | None, numbers: Mapping[str, float], *, version: str | None, at: datetime) -> Added:
    """Return the hour with one more message of the device, which runs this firmware.

    What was stored of other firmware is left out: an hour is of one, so that firmware can be compared.
    """
    vitals = {} if before is None or before.version != version else dict(before.vitals)
    too_many = []
    for name, number in numbers.items():
        one = Summary.of(number, at)
        if name in vitals:
            vitals[name] = vitals[name].then(one)
        elif len(vitals) < NAMES_MAX:
            vitals[name] = one
        else:
            too_many.append(name)
    return Added(StoredHour(version, vitals), too_many)


def joined(summaries: Iterable[Summary]) -> Summary:
    """Return the summary of all numbers of one or more summaries, in order of time."""
    whole, *others = summaries
    for one in others:
        whole = whole.then(one)
    return whole


def thinned(hours: Sequence[Stretch], *, most: int = POINTS_MAX) -> list[Stretch]:
    """Return hours in order of time as at most `most` equal parts of their time, without those that are empty."""
    return list(_thinned(hours, most)) if hours else []


def _thinned(hours: Sequence[Stretch], most: int) -> Iterator[Stretch]:
    first = hours[0].at
    length = HOUR * -(-((hours[-1].at - first) // HOUR + 1) // most)
    for _, group in groupby(hours, key=lambda hour: (hour.at - first) // length):
        part = list(group)
        yield Stretch(part[0].at, part[-1].version, joined(hour.summary for hour in part))
