"""What a device has to say: once, or again and again until it is answered; and what it tells its log."""

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
Saying = tuple[Topic[Any], BaseModel]
Say = Callable[[], Saying | None]
SLOWEST: Final = 12
"""So many times longer than its first pause a slowing pause gets at most: a minute after 5 s."""


def one_line(text: str) -> str:
    """Return `text` as the protocol carries it: at most 200 characters, none of them a control character."""
    return "".join(character if character.isprintable() else " " for character in text)[:200]


class Ending(StrEnum):
    """Why a connection is given up on purpose."""

    STOP = "stop"
    SWITCH = "switch"
    REBOOT = "reboot"


class Publishes(Protocol):
    """The part of a connection that sends."""

    async def publish(self, topic: str, payload: bytes, *, qos: int, retain: bool) -> None:
        """Publish and wait for the acknowledgement."""


@dataclass(frozen=True, slots=True)
class _Once:
    topic: Topic[Any]
    message: _Payload
    then: Callable[[], None] | None


@dataclass(slots=True)
class _Repeat:
    say: Say
    every_s: float
    longest_s: float
    due_at: float


class Uplink:
    """The way up: handlers leave here what is to be said, and one task sends it.

    Nothing is kept over a lost connection; each part of the device says what is due when it is connected anew.
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

    def note(self, event: str, **facts: object) -> None:
        """Tell the log and the hook what has happened; facts must hold no secret."""
        self._log.info(event, **facts)
        self.journal.add(event, facts)
        self.hooks.on_event(event, facts)

    def end(self, ending: Ending) -> None:
        """Give up the connection when all is said; the first reason holds."""
        if self.ending is None:
            self.ending = ending

    def reset(self) -> None:
        """Forget what was to be said."""
        self.ending = None
        self._once.clear()
        self._repeats.clear()

    def say(self, topic: Topic[Any], message: _Payload, *, then: Callable[[], None] | None = None) -> None:
        """Send once; `then` is called when the broker has it."""
        self._once.append(_Once(topic, message, then))

    def repeat(
        self, key: str, say: Say, *, every_s: float, first_in_s: float = 0.0, slowing: bool = False
    ) -> None:
        """Send what `say` returns now and every so often, until it returns None or `stop`; replaces `key`.

        With `slowing` each pause is twice as long as the one before, up to SLOWEST times the first: who waits for
        a busy service must not keep it busy.
        """
        longest_s = every_s * (SLOWEST if slowing else 1)
        self._repeats[key] = _Repeat(say, every_s, longest_s, self.hooks.clock() + first_in_s)

    def stop(self, key: str) -> None:
        """Repeat no longer."""
        self._repeats.pop(key, None)

    def next_due(self) -> float | None:
        """Return when `flush` has something to do, on the hooks' clock in seconds, or None."""
        if self._once or self.journal.waiting():
            return self.hooks.clock()
        return min((repeat.due_at for repeat in self._repeats.values()), default=None)

    async def flush(self, link: Publishes) -> None:
        """Send all that is due, or raise what the connection raises."""
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
            saying = repeat.say()
            if saying is None:
                self.stop(key)
                continue
            repeat.due_at = now + repeat.every_s
            repeat.every_s = min(repeat.every_s * 2, repeat.longest_s)
            await self._publish(link, *saying)
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
