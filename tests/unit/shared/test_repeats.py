"""Lines of the log that are the same, and those that only look alike."""

from __future__ import annotations

import io
import json
import logging
import sys
from collections.abc import Iterator
from typing import Any

import pytest
import structlog

from shared.runtime import log, log_repeats
from shared.runtime.settings import ProcessSettings

OURS = structlog.get_logger()
THEIRS = logging.getLogger("asyncio")


class Log:
    """What is logged, at a time that the test sets."""

    def __init__(self) -> None:
        self.stream = io.StringIO()
        self.now = 100.0

    def lines(self) -> list[dict[str, Any]]:
        return [json.loads(line) for line in self.stream.getvalue().splitlines()]

    def repeated(self) -> list[int | None]:
        return [line.get(log_repeats.REPEATED) for line in self.lines()]


@pytest.fixture
def written(monkeypatch: pytest.MonkeyPatch) -> Iterator[Log]:
    made = Log()
    root = logging.getLogger()
    before, level = root.handlers[:], root.level
    levels = {name: logging.getLogger(name).level for name in ("httpx", "httpcore", "alembic", "mqtt")}
    monkeypatch.setattr(sys, "stderr", made.stream)
    monkeypatch.setattr(log, "Repeats", lambda: log_repeats.Repeats(lambda: made.now))
    root.handlers = []
    log.configure(ProcessSettings(), service="test")
    yield made
    root.handlers, root.level = before, level
    for name, was in levels.items():
        logging.getLogger(name).setLevel(was)
    structlog.reset_defaults()
    structlog.contextvars.clear_contextvars()


def test_a_flood_of_one_line_is_one_line_a_second_that_says_how_many_there_were(written: Log) -> None:
    for _ in range(1000):
        OURS.warning("broker.away", reason="refused")
    written.now += log_repeats.INTERVAL_S
    for _ in range(3):
        OURS.warning("broker.away", reason="refused")
    written.now += log_repeats.INTERVAL_S
    OURS.warning("broker.away", reason="refused")
    written.now += log_repeats.INTERVAL_S
    OURS.warning("broker.away", reason="refused")
    assert written.repeated() == [None, 999, 2, None]


def test_the_same_event_of_two_devices_or_with_another_fact_is_not_the_same_line(written: Log) -> None:
    for client_id in ("a", "b"):
        for step in (1, 2):
            OURS.info("rotation.switched", client_id=client_id, step=step)
    OURS.error("rotation.switched", client_id="a", step=1)
    assert written.repeated() == [None] * 5


def test_a_line_of_a_library_that_differs_in_numbers_is_the_same(written: Log) -> None:
    for number in range(100):
        try:
            raise ConnectionError(number)
        except OSError:
            text = f"socket.accept() out of system resource\nsocket: <TransportSocket fd={number}>"
            THEIRS.exception(text)
        THEIRS.warning("%s took %d s", "task", number)
    assert len(written.lines()) == 2
    written.now += log_repeats.INTERVAL_S
    THEIRS.warning("%s took %d s", "task", 1)
    assert written.repeated() == [None, None, 99]


def test_lines_of_libraries_that_name_something_else_are_all_there(written: Log) -> None:
    for name in ("a", "b"):
        THEIRS.error("%s", name)
        logging.getLogger("other").error("%s", name)
    for kind in (ValueError, TypeError):
        try:
            raise kind
        except (ValueError, TypeError):
            THEIRS.exception("Task exception was never retrieved")
    assert written.repeated() == [None] * 6


def test_no_more_lines_are_remembered_than_there_is_room_for(written: Log) -> None:
    for number in range(5000):
        OURS.info("many", number=number)
    filters = logging.getLogger().handlers[0].filters
    assert isinstance(filters[0], log_repeats.Repeats)
    assert len(filters[0]._lines) == log_repeats._REMEMBERED
    assert len(written.lines()) == 5000
