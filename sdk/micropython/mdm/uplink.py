"""What a device sends: once, or again and again until there is an answer."""

from mdm.storage import dumps

_LEAVE_MS = 3000


class Uplink:
    """The outgoing messages; nothing outlives a connection: each part of the device begins again at the next."""

    def __init__(self, clock, lines):
        self.clock = clock
        self._lines = lines
        self._link = None
        self._ending = None
        self._base = ""
        self._once = []
        self._repeats = {}

    def log(self, message, level="info", tag="mdm"):
        """Add a line to the log that the server gets; `level` is debug, info, warning or error. Never a secret."""
        self._lines.add(message, level, tag, self.clock.ms())

    def send(self, topic, payload, retain=False, then=None):
        """Send once, on a topic below `up/` or `app/`; `then` is called when the broker has it."""
        self._once.append((topic, payload, retain, then))

    def repeat(self, key, source, every_ms, first_ms=0, slowing=False):
        """Send what `source` returns, now and again, until it returns None.

        With `slowing` each pause is twice as long as the one before, up to 12 times the first.
        """
        longest_ms = every_ms * 12 if slowing else every_ms
        self._repeats[key] = [source, every_ms, longest_ms, self.clock.ms() + first_ms]

    def stop_repeating(self, key):
        """End a repetition."""
        self._repeats.pop(key, None)

    def end(self, reason):
        """End the connection when all is sent: `switch` logs in again, `reboot` restarts; the first counts."""
        self._ending = self._ending or reason

    def begin(self):
        """Drop what was to be sent over the last connection."""
        self._ending = None
        self._once = []
        self._repeats = {}
        self._lines.on_connected()

    def due_ms(self, longest_ms):
        """Return how long nothing is due, at most `longest_ms`."""
        due = [repeat[3] for repeat in self._repeats.values()]
        return max(0, min(longest_ms, min(due) - self.clock.ms())) if due else longest_ms

    def flush(self):
        """Send all that is due."""
        while self._once:
            self._publish(*self._once.pop(0))
        now = self.clock.ms()
        for key, repeat in list(self._repeats.items()):
            if repeat[3] <= now:
                sent = repeat[0]()
                if sent is not None:
                    repeat[3] = now + repeat[1]
                    repeat[1] = min(repeat[1] * 2, repeat[2])
                    self._publish(*sent)
                elif self._repeats.get(key) is repeat:
                    del self._repeats[key]
        lines = self._lines.waiting()
        if lines is not None:
            self._publish("log", lines, then=self._lines.on_sent)

    def leave(self):
        """End the connection when the broker has all that was sent; return the reason."""
        reason, self._ending = self._ending, None
        if reason == "stop":
            self._publish("status", {"online": False}, retain=True)
        elif reason == "sleep":
            self._publish("status", {"online": False, "asleep": True}, retain=True)
        until = self.clock.ms() + _LEAVE_MS
        while self._link.unacknowledged and self.clock.ms() < until:
            self._link.receive(100)  # a message is not acknowledged, and comes again
        self._link.disconnect()
        self._link = None
        return reason

    def _publish(self, topic, payload, retain=False, then=None):
        topic = topic if topic.startswith("app/") else f"{self._base}up/{topic}"
        payload = payload if isinstance(payload, (str, bytes)) else dumps(payload)
        self._link.publish(topic, payload, retain, then)
