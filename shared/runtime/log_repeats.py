"""Limits repeated log lines to one a second: a flood must neither fill the disk nor hide other lines."""

from __future__ import annotations

import logging
import re
import threading
import time
from collections import OrderedDict
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from traceback import walk_tb
from typing import Final

INTERVAL_S: Final = 1.0
REPEATED: Final = "repeated"
"""The field with the number of equal lines that were left out since the previous one."""
_REMEMBERED: Final = 1000
_TIME: Final = "timestamp"
_NUMBER: Final = re.compile(r"0x[0-9a-f]+|\d+")


@dataclass(slots=True)
class _Line:
    at: float
    left_out: int = 0


class Repeats(logging.Filter):
    """Leaves out a line that was logged within INTERVAL_S; the next equal line has the number of omitted ones.

    Two lines of our own are equal if all their fields but the time are. Two lines of a library are equal if they
    come from one logger with the same first line, except for numbers, and have the same type of exception from the
    same place: ports, descriptors and addresses in memory differ in each line of a flood.
    """

    def __init__(self, now: Callable[[], float] = time.monotonic) -> None:
        super().__init__()
        self._now = now
        self._lines: OrderedDict[object, _Line] = OrderedDict()
        self._lock = threading.Lock()

    def filter(self, record: logging.LogRecord) -> bool:
        """Return whether to write the line."""
        key, now = _key(record), self._now()
        with self._lock:
            before = self._lines.pop(key, None)
            if before is not None and now - before.at < INTERVAL_S:
                before.left_out += 1
                self._lines[key] = before
                return False
            self._lines[key] = _Line(now)
            if len(self._lines) > _REMEMBERED:
                self._lines.popitem(last=False)
        if before is not None and before.left_out:
            if isinstance(record.msg, dict):
                record.msg = {**record.msg, REPEATED: before.left_out}
            else:
                setattr(record, REPEATED, before.left_out)
        return True


def _key(record: logging.LogRecord) -> object:
    """Return the key by which two lines are compared."""
    if isinstance(record.msg, Mapping):
        return repr([(name, value) for name, value in record.msg.items() if name != _TIME])
    kind = place = None
    if record.exc_info and record.exc_info[2]:
        kind = record.exc_info[0]
        *_, (frame, number) = walk_tb(record.exc_info[2])
        place = (frame.f_code.co_filename, number)
    text = _NUMBER.sub("", record.getMessage().partition("\n")[0])
    return record.name, record.levelno, text, kind, place
