"""The last lines of the device's log, for `up/log`: connections, profiles, rotations and crashes."""

from __future__ import annotations

import secrets
from collections import deque
from collections.abc import Mapping
from typing import Final

from device.options import Hooks
from shared.protocol.messages import Log, LogLevel, LogLine

_TOLD: Final = ("device.", "login.", "link.", "connection.", "rotation.", "coredump.")
_BAD_ENDS: Final = ("failed", "lost", "refused", "rejected", "reverted")
_LINES_MAX: Final = 50


class Journal:
    """Lines that the broker does not have yet; beyond the size of a message, the oldest are lost."""

    def __init__(self, hooks: Hooks) -> None:
        self._hooks = hooks
        self.boot = secrets.randbits(32)
        self._lines: deque[LogLine] = deque(maxlen=_LINES_MAX)
        self._next = 0

    def add(self, event: str, facts: Mapping[str, object]) -> None:
        """Add a line, if its kind is sent to the server; facts must have no secret."""
        if not event.startswith(_TOLD):
            return
        level = LogLevel.WARNING if event.endswith(_BAD_ENDS) else LogLevel.INFO
        words = [event, *(f"{name}={value}" for name, value in facts.items())]
        self._lines.append(LogLine(level=level, message=" ".join(words), tag="device", time=self._hooks.now()))
        self._next += 1

    def waiting(self) -> Log | None:
        """Return the lines to send, or None."""
        if not self._lines:
            return None
        return Log(boot=self.boot, first=self._next - len(self._lines), lines=list(self._lines))

    def forget(self, sent: Log) -> None:
        """Drop the lines that the broker now has."""
        while self._lines and self._next - len(self._lines) < sent.first + len(sent.lines):
            self._lines.popleft()
