"""The last lines of the device's log, for `up/log`; never a secret."""

_LINES_MAX = 16


class Log:
    """Lines that the broker does not have yet; when there are too many, the oldest are lost."""

    def __init__(self, boot):
        self._boot = boot
        self._lines = []
        self._first = 0
        self._under_way = None

    def add(self, message, level, tag, uptime_ms):
        """Add a line."""
        line = {"level": level, "message": message[:1000].replace("\0", " "), "uptime_ms": uptime_ms}
        if tag:
            line["tag"] = tag
        self._lines.append(line)
        if len(self._lines) > _LINES_MAX:
            self._forget(self._first + 1)

    def on_connected(self):
        """Send again what the broker has not acknowledged."""
        self._under_way = None

    def waiting(self):
        """Return the lines to send now, or None; one message at a time."""
        if not self._lines or self._under_way is not None:
            return None
        self._under_way = self._first + len(self._lines)
        return {"boot": self._boot, "first": self._first, "lines": self._lines}

    def on_sent(self):
        """Forget the lines of the message that the broker now has."""
        if self._under_way is not None:
            self._forget(self._under_way)
            self._under_way = None

    def _forget(self, until):
        del self._lines[: max(0, until - self._first)]
        self._first = max(self._first, until)
