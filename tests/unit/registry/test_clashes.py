from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest

from services.registry import clashes
from services.registry.clashes import RETURNS, WINDOW, Clashes

NOW = datetime(2026, 1, 1, tzinfo=UTC)
NAME = "iotdevice-lamp-abcd1234"


def seen(boots: list[int], *, every: timedelta = timedelta(seconds=20)) -> bool:
    found = Clashes()
    for number, boot in enumerate(boots):
        found.on_boot(NAME, boot, NOW + number * every)
    return NAME in found.seen_at


@pytest.mark.parametrize("boots", [[1, 2] * 3, [1, 1, 2, 2, 1, 1, 2, 2, 1], [1, 2, 3, 1, 2, 3]])
def test_starts_that_return_are_those_of_two_boards(boots: list[int]) -> None:
    assert seen(boots)


@pytest.mark.parametrize(
    "boots",
    [
        pytest.param([7] * 100, id="a bad connection"),
        pytest.param(list(range(100)), id="a board that starts again and again"),
        pytest.param([1, 2, 1, 2, 3, 4, 5, 6], id="a status that was late, twice"),
        pytest.param([1] * 50 + [2] * 50, id="a start between two bad connections"),
    ],
)
def test_no_single_board_is_taken_for_two(boots: list[int]) -> None:
    assert not seen(boots)


def test_returns_that_are_long_apart_are_no_clash() -> None:
    """One board is put into the place of the other now and then."""
    assert not seen([1, 2] * 20, every=WINDOW)
    assert seen([1, 2] * 20, every=WINDOW / (RETURNS + 2))


def test_a_board_that_was_connected_for_days_is_remembered() -> None:
    found = Clashes()
    found.on_boot(NAME, 1, NOW - timedelta(days=9))
    for number, boot in enumerate([2, 1, 2, 1]):
        found.on_boot(NAME, boot, NOW + timedelta(seconds=number))
    assert found.seen_at == {NAME: NOW + timedelta(seconds=3)}


def test_addresses_count_for_a_board_that_reports_no_start() -> None:
    found = Clashes()
    for number in range(6):
        found.on_takeover(NAME, f"192.168.1.{number % 2}", NOW + timedelta(seconds=number))
    assert NAME in found.seen_at


def test_a_board_with_two_addresses_is_known_by_its_start() -> None:
    """Behind two ways into the internet, each connection may come from another address."""
    found = Clashes()
    for number in range(20):
        at = NOW + timedelta(seconds=number)
        found.on_takeover("iotdevice-lamp-other123", "192.168.1.7", at)
        found.on_boot(NAME, 7, at)
        found.on_takeover(NAME, f"192.168.1.{number % 2}", at)
    assert found.seen_at == {}


def test_addresses_do_not_count_once_a_start_is_reported() -> None:
    """The broker's log may be ahead of the statuses."""
    found = Clashes()
    for number in range(6):
        found.on_takeover(NAME, f"192.168.1.{number % 2}", NOW + timedelta(seconds=number))
    found.on_boot(NAME, 7, NOW + timedelta(seconds=6))
    assert found.seen_at == {}


def test_a_clash_by_starts_stays_when_the_same_start_is_reported_again() -> None:
    found = Clashes()
    for number, boot in enumerate([1, 2, 1, 2, 1, 1]):
        found.on_boot(NAME, boot, NOW + timedelta(seconds=number))
    assert found.seen_at == {NAME: NOW + timedelta(seconds=5)}


def test_what_is_remembered_is_bounded() -> None:
    marks: clashes.Marks = []
    for boot in range(1000):
        marks = clashes.added(marks, boot, NOW)
    assert len(marks) == clashes._KEPT
    assert not clashes.is_clash(marks)


def test_a_clash_is_over_after_the_window() -> None:
    assert clashes.is_recent(NOW, NOW + WINDOW / 2)
    assert not clashes.is_recent(NOW, NOW + WINDOW)
    assert not clashes.is_recent(None, NOW)
