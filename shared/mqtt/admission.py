"""Admission control of a connection: a rate limit for each sender, and a bound on the memory of waiting messages.

A sender is a device or a claim. Each has a bucket and a bound for each topic, so that a flood on one topic takes
nothing from its others: the `ack` of a rotation is accepted whatever else the device sends.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Mapping
from typing import Any, Final, NamedTuple

import structlog

from shared.mqtt.rates import Buckets, Rate
from shared.protocol.topics import Topic
from shared.runtime import metrics

log = structlog.get_logger()

WAITING_MAX: Final = 50_000
WAITING_MAX_BYTES: Final = 32 * 1024 * 1024
"""Bytes of payload, in addition to some 2 KiB for each message."""
RETAINED_WAITING_MAX: Final = 10
"""Of a retained topic, for each sender; more than 1, as a status from before a disconnect still counts."""
PUBLIC: Final = "public"
_PUBLIC_RATE: Final = Rate(200, 400)
"""Rate of a public topic, for all senders together."""
REPORT_S: Final = 10.0
_NAMED: Final = 5


class Sender(NamedTuple):
    """The sender of a message and its topic; `kind` is the name in the template that identifies the sender."""

    kind: str
    name: str
    template: str


class AdmissionControl:
    """Counts waiting messages, and decides whether another one is accepted; `now` is a time in seconds."""

    def __init__(self) -> None:
        self._rates: dict[str, Rate] = {PUBLIC: _PUBLIC_RATE}
        self._buckets: dict[str, Buckets] = {PUBLIC: Buckets(_PUBLIC_RATE)}
        self._waiting: Counter[Sender] = Counter()
        self._size_bytes = 0
        self._count = 0
        self._dropped: Counter[tuple[str, str]] = Counter()
        self._report_at = -math.inf

    def limit(self, kind: str, rate: Rate) -> None:
        """Set the rate of each sender named by `{kind}` in a topic, for each of its topics."""
        self._rates[kind] = rate
        self._buckets[kind] = Buckets(rate)

    def sender(self, topic: Topic[Any], names: Mapping[str, str]) -> Sender | None:
        """Return the limited sender among the names in a topic; None for a service or an admin."""
        if topic.public:
            return Sender(PUBLIC, "everybody", topic.template)
        for kind in self._rates:
            if kind in names:
                return Sender(kind, names[kind], topic.template)
        return None

    def admits(self, topic: Topic[Any], sender: Sender | None, size_bytes: int, *, now: float) -> bool:
        """Accept a message for the queue and return True, or return False if there is no room for it."""
        if self._count >= WAITING_MAX or self._size_bytes + size_bytes > WAITING_MAX_BYTES:
            return False
        if sender is not None:
            # Of a retained topic only the newest message matters: a queue of older ones would hold up all else.
            if self._waiting[sender] >= (RETAINED_WAITING_MAX if topic.retain else self._rates[sender.kind].burst):
                return False
            if not (topic.paced or self._buckets[sender.kind].take(sender, now)):
                return False
            self._waiting[sender] += 1
        self._count += 1
        self._size_bytes += size_bytes
        return True

    def done(self, sender: Sender | None, size_bytes: int) -> None:
        """Count a message that has waited as handled."""
        self._count -= 1
        self._size_bytes -= size_bytes
        if sender is not None:
            self._waiting[sender] -= 1
            if not self._waiting[sender]:
                del self._waiting[sender]

    def drop(self, topic: Topic[Any], sender: Sender | None, *, now: float) -> None:
        """Count a dropped message; a summary of all of them is logged now and then."""
        metrics.MESSAGES.labels(topic.template, "dropped").inc()
        self._dropped[sender.name if sender else "-", topic.template] += 1
        if now >= self._report_at:
            worst = {" ".join(whose): count for whose, count in self._dropped.most_common(_NAMED)}
            log.warning("messages.dropped", count=self._dropped.total(), worst=worst, waiting=self._count)
            self._dropped.clear()
            self._report_at = now + REPORT_S
