"""The server's time on a device, whose own clock may be wrong or missing."""

from __future__ import annotations

from collections.abc import Callable
from datetime import datetime, timedelta


class ServerClock:
    """Adds the seconds since the boot to the server's time at the boot, as estimated from messages.

    A message may have waited anywhere, so its time is the server's time or an earlier one. The answer to an own
    request was made after the request, so it has waited for a moment at most.
    """

    def __init__(self, monotonic_s: Callable[[], float]) -> None:
        self._monotonic_s = monotonic_s
        self._at_zero: datetime | None = None

    def adjust(self, time: datetime | None, *, is_answer: bool) -> None:
        """Take the time of a message that has just arrived: an answer's always, else if it is ahead of ours."""
        if time is None:
            return  # of an older server
        at_zero = time - timedelta(seconds=self._monotonic_s())
        if is_answer or self._at_zero is None or at_zero > self._at_zero:
            self._at_zero = at_zero

    def now(self) -> datetime | None:
        """Return the server's time, or None if no message has had it since the boot."""
        return None if self._at_zero is None else self._at_zero + timedelta(seconds=self._monotonic_s())
