from __future__ import annotations

from datetime import timedelta

import pytest

from device.server_clock import ServerClock
from tests.unit.device.kit import EPOCH

LATE = timedelta(days=3)


class Timer:
    """Counts the seconds since the boot."""

    def __init__(self) -> None:
        self.seconds = 1000.0

    def __call__(self) -> float:
        return self.seconds


def test_without_a_message_no_time_is_known() -> None:
    clock = ServerClock(Timer())
    assert clock.now() is None
    clock.adjust(None, is_answer=True)
    assert clock.now() is None


def test_it_runs_on_with_the_seconds_since_the_boot() -> None:
    timer = Timer()
    clock = ServerClock(timer)
    clock.adjust(EPOCH, is_answer=True)
    assert clock.now() == EPOCH
    timer.seconds += 90
    assert clock.now() == EPOCH + timedelta(seconds=90)


def test_a_message_that_has_waited_does_not_put_it_back() -> None:
    clock = ServerClock(Timer())
    clock.adjust(EPOCH, is_answer=True)
    clock.adjust(EPOCH - LATE, is_answer=False)
    assert clock.now() == EPOCH


@pytest.mark.parametrize("is_answer", [True, False])
def test_after_a_message_that_has_waited_a_fresh_one_puts_it_right(is_answer: bool) -> None:
    clock = ServerClock(Timer())
    clock.adjust(EPOCH - LATE, is_answer=False)
    clock.adjust(EPOCH, is_answer=is_answer)
    assert clock.now() == EPOCH


def test_after_a_server_was_ahead_the_next_answer_puts_it_right() -> None:
    clock = ServerClock(Timer())
    clock.adjust(EPOCH + LATE, is_answer=False)
    clock.adjust(EPOCH, is_answer=False)
    assert clock.now() == EPOCH + LATE
    clock.adjust(EPOCH, is_answer=True)
    assert clock.now() == EPOCH
