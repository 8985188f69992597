"""What the soak calls flat."""

from __future__ import annotations

import os

import pytest

from dev.soak import measure
from dev.soak.measure import Series


@pytest.mark.parametrize(
    ("memory", "flat"),
    [
        ([100] * 30, True),
        ([100] * 10 + [104] * 20, True),
        ([100] * 20 + [104] * 10, True),
        ([100] * 10 + [101] * 10 + [102] * 10, True),
        ([100] * 10 + [103] * 10 + [106] * 10, False),
        ([100] * 29 + [150], True),
        ([100] * 20 + [111] * 10, False),
        ([100] * 10 + [90] * 20, True),
    ],
    ids=["level", "an early step", "a late step", "creeping", "a slope", "a peak", "too much", "less"],
)
def test_memory_is_flat_unless_it_grows_much_or_twice(memory: list[int], flat: bool) -> None:
    assert Series("service", judged=True, memory=list(enumerate(memory))).is_flat is flat


def test_a_slope_is_per_minute() -> None:
    series = Series("service", judged=True, memory=[(5.0 * number, 1000 + 10 * number) for number in range(12)])
    assert series.slope_bytes_per_min == pytest.approx(120)


def test_a_process_has_memory_and_has_used_time() -> None:
    assert measure.memory_bytes(os.getpid()) > 1024 * 1024
    assert 0 <= measure.memory_bytes(os.getpid(), measure.SHARED) < measure.memory_bytes(os.getpid())
    assert measure.cpu_s(os.getpid()) > 0
