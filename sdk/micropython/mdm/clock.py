"""The server's time, and the time since the start; the board's own clock decides nothing."""

import time


def count(year, month, day, hour, minute, second):
    """Return the seconds since 1970."""
    # A year that begins in March has its leap day at the end.
    year, month = (year, month - 3) if month > 2 else (year - 1, month + 9)
    days = 365 * year + year // 4 - year // 100 + year // 400 + (153 * month + 2) // 5 + day - 719469
    return days * 86400 + hour * 3600 + minute * 60 + second


def seconds(text):
    """Return an RFC 3339 time in whole seconds since 1970, rounded down; raise ValueError."""
    if len(text) < 20 or text[4] + text[7] + text[10] + text[13] + text[16] != "--T::":
        raise ValueError("time: must be as in RFC 3339")
    total = count(*[int(text[at : at + size]) for at, size in ((0, 4), (5, 2), (8, 2), (11, 2), (14, 2), (17, 2))])
    zone = text[19:].lstrip(".0123456789")
    if zone in ("Z", "z"):
        return total
    away = int(zone[1:3]) * 3600 + int(zone[4:6]) * 60
    return total + away if zone[0] == "-" else total - away


class Clock:
    """Counts milliseconds since the start, and knows the server's time once a message has told it."""

    def __init__(self):
        self._last = time.ticks_ms()
        self._ms = 0
        self._at_zero = None

    def ms(self):
        """Return the milliseconds since the start; to be called at least once in six days, when ticks_ms wraps."""
        now = time.ticks_ms()
        self._ms += time.ticks_diff(now, self._last)
        self._last = now
        return self._ms

    def adjust(self, text, is_answer):
        """Take the time of a message that has just arrived: an answer's always, else if it is ahead of ours."""
        at_zero = seconds(text) * 1000 - self.ms()
        if is_answer or self._at_zero is None or at_zero > self._at_zero:
            self._at_zero = at_zero

    def now(self):
        """Return the server's time in seconds since 1970, or None if no message has told it yet."""
        return None if self._at_zero is None else (self._at_zero + self.ms()) // 1000
