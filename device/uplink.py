"""The device's outgoing messages, sent once or repeated until answered, and its log."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from enum import StrEnum
from typing import Any, Final, Protocol

import structlog
from pydantic import BaseModel

from device.journal import Journal
from device.options import Hooks
from shared.protocol import messages, topics
from shared.protocol.topics import Topic

_Payload = BaseModel | messages.Packed
Outgoing = tuple[Topic[Any], BaseModel]
MessageSource = Callable[[], Outgoing | None]
SLOWEST: Final = 12
"""The limit of a slowing pause, as a multiple of the first one: a minute after 5 s."""


class Ending(StrEnum):
    """Why a connection is closed on purpose."""

    STOP = "stop"
    SWITCH = "switch"
    REBOOT = "reboot"
    SLEEP = "sleep"


class Publishes(Protocol):
    """The sending part of a connection."""

    async def publish(self, topic: str, payload: bytes, *, qos: int, retain: bool) -> None:
        """Publish and wait for the acknowledgement."""


@dataclass(frozen=True, slots=True)
class _Once:
    topic: Topic[Any]
    message: _Payload
    then: Callable[[], None] | None


@dataclass(slots=True)
class _Repeat:
    source: MessageSource
    every_s: float
    longest_s: float
    due_at: float


class Uplink:
    """The outgoing messages: handlers add them, and one task sends them.

    Nothing outlives a connection; each part of the device adds its messages again at the next one.
    Fault points: `publish.status:before`, `publish.status:after`, and so for each topic below `up/`.
    """

    def __init__(self, client_id: str, hooks: Hooks) -> None:
        self.client_id = client_id
        self.hooks = hooks
        self.ending: Ending | None = None
        self.journal = Journal(hooks)
        self._once: deque[_Once] = deque()
        self._repeats: dict[str, _Repeat] = {}
        self._log = structlog.get_logger("device").bind(client_id=client_id)

    def record(self, event: str, **facts: object) -> None:
        """Log an event and pass it to the hook; facts must have no secret."""
        self._log.info(event, **facts)
        self.journal.add(event, facts)
        self.hooks.on_event(event, facts)

    def end(self, ending: Ending) -> None:
        """Close the connection once everything is sent; the first reason counts."""
        if self.ending is None:
            self.ending = ending

    def reset(self) -> None:
        """Drop all messages."""
        self.ending = None
        self._once.clear()
        self._repeats.clear()

    def send(self, topic: Topic[Any], message: _Payload, *, then: Callable[[], None] | None = None) -> None:
        """Send once; `then` is called when the broker has it."""
        self._once.append(_Once(topic, message, then))

    def repeat(
        self, key: str, source: MessageSource, *, every_s: float, first_in_s: float = 0.0, slowing: bool = False
    ) -> None:
        """Send the message that `source` returns now and periodically, until None or `stop`; replaces `key`.

        With `slowing` each pause is twice as long as the previous one, up to SLOWEST times the first: a device
        that waits for a busy service must not keep it busy.
        """
        longest_s = every_s * (SLOWEST if slowing else 1)
        self._repeats[key] = _Repeat(source, every_s, longest_s, self.hooks.clock() + first_in_s)

    @property
    def is_empty(self) -> bool:
        """Whether nothing waits to be sent once."""
        return not self._once and self.journal.waiting() is None

    def stop(self, key: str) -> None:
        """Stop the repetition of `key`."""
        self._repeats.pop(key, None)

    def next_due(self) -> float | None:
        """Return when `flush` is due next, on the hooks' clock in seconds, or None."""
        if self._once or self.journal.waiting():
            return self.hooks.clock()
        return min((repeat.due_at for repeat in self._repeats.values()), default=None)

    async def flush(self, link: Publishes) -> None:
        """Send all that is due, or raise the connection's error."""
        while self._once:
            once = self._once[0]
            await self._publish(link, once.topic, once.message)
            self._once.popleft()
            if once.then is not None:
                once.then()
        now = self.hooks.clock()
        for key, repeat in list(self._repeats.items()):
            if repeat.due_at > now:
                continue
            outgoing = repeat.source()
            if outgoing is None:
                self.stop(key)
                continue
            repeat.due_at = now + repeat.every_s
            repeat.every_s = min(repeat.every_s * 2, repeat.longest_s)
            await self._publish(link, *outgoing)
        lines = self.journal.waiting()
        if lines is not None:
            await self._publish(link, topics.LOG, lines)
            self.journal.forget(lines)

    async def _publish(self, link: Publishes, topic: Topic[Any], message: _Payload) -> None:
        name = "publish." + topic.template.partition("/up/")[2].replace("/", ".")
        self.hooks.fault(f"{name}:before")
        address = topic.of(client_id=self.client_id)
        await link.publish(address, topic.encode(message), qos=topic.qos, retain=topic.retain)
        self.hooks.fault(f"{name}:after")
