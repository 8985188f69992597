"""Weather between the reference device and the broker: the messages of one topic are lost, doubled or late."""

from __future__ import annotations

import asyncio
import contextlib
from collections import deque
from collections.abc import Awaitable, Callable
from enum import StrEnum
from typing import Any

import pytest

from dev.waiting import PATIENCE_S
from device.link import Link, LinkLostError
from shared.protocol.topics import Topic

_PAUSE_S = 0.1
Receive = Callable[[Link], Awaitable[tuple[str, bytes]]]


class Fault(StrEnum):
    """What becomes of the messages of a topic."""

    LOST_ONCE = "lost once"
    LOST = "lost until the deadline"
    DOUBLED = "doubled"
    LATE = "later than the deadline"


class Weather:
    """Holds for all devices of this process, until it clears up; `also_lost` never arrives before that."""

    def __init__(self, topic: Topic[Any], fault: Fault, *, also_lost: Topic[Any] | None = None) -> None:
        self._topic = topic
        self._fault = fault
        self._also_lost = also_lost
        self._met = 0
        self._begun = asyncio.Event()
        self._meets = asyncio.Event()
        self._late: list[tuple[str, bytes]] = []
        self._arriving: deque[tuple[str, bytes]] = deque()
        self._clear = asyncio.Event()
        self._link: Link | None = None

    @property
    def outlasts_the_deadline(self) -> bool:
        """Whether a rotation that needs this topic cannot go on before it clears up."""
        return self._also_lost is not None or self._fault in {Fault.LOST, Fault.LATE}

    def begin(self, monkeypatch: pytest.MonkeyPatch) -> None:
        """Come between the devices and the broker."""
        publish, receive = Link.publish, Link.receive

        async def publish_through(link: Link, topic: str, payload: bytes, *, qos: int, retain: bool) -> None:
            self._link = link
            for _ in range(self._copies(topic, payload)):
                await publish(link, topic, payload, qos=qos, retain=retain)

        async def receive_through(link: Link) -> tuple[str, bytes]:
            while not self._arriving:
                message = await self._received(link, receive)
                if message is not None:
                    self._arriving.extend([message] * self._copies(*message))
            return self._arriving.popleft()

        monkeypatch.setattr(Link, "publish", publish_through)
        monkeypatch.setattr(Link, "receive", receive_through)

    async def holds(self) -> None:
        """Wait until something was lost, doubled or held back."""
        async with asyncio.timeout(PATIENCE_S):
            await self._begun.wait()

    async def clear_up(self) -> None:
        """Wait for a message of the topic, and then let everything through, first of all what is late."""
        async with asyncio.timeout(PATIENCE_S):
            await self._meets.wait()
        late, self._late = self._late, []
        if "/down/" in self._topic.template:
            self._arriving.extend(late)
        self._clear.set()
        if "/up/" in self._topic.template:
            async with asyncio.timeout(PATIENCE_S):
                for topic, payload in late:
                    await self._deliver(topic, payload)

    async def _deliver(self, topic: str, payload: bytes) -> None:
        """Send what is late over the device's present connection, or its next one."""
        while self._link is not None:
            with contextlib.suppress(LinkLostError):
                await self._link.publish(topic, payload, qos=1, retain=self._topic.retain)
                return
            await asyncio.sleep(_PAUSE_S)

    def _copies(self, topic: str, payload: bytes) -> int:
        """Return how often a message arrives that is sent now."""
        if self._clear.is_set():
            return 1
        if self._also_lost is not None and self._also_lost.match(topic) is not None:
            self._begun.set()
            return 0
        if self._topic.match(topic) is None:
            return 1
        self._met += 1
        self._meets.set()
        self._begun.set()
        match self._fault:
            case Fault.LOST_ONCE:
                return int(self._met > 1)
            case Fault.DOUBLED:
                return 2
            case Fault.LATE:
                self._late.append((topic, payload))
        return 0

    async def _received(self, link: Link, receive: Receive) -> tuple[str, bytes] | None:
        """Return what the broker sends, or None when it has cleared up before there was anything."""
        receiving = asyncio.ensure_future(receive(link))
        clearing = asyncio.ensure_future(self._clear.wait())
        waits = {receiving} if self._clear.is_set() else {receiving, clearing}
        try:
            await asyncio.wait(waits, return_when=asyncio.FIRST_COMPLETED)
            return receiving.result() if receiving.done() else None
        finally:
            receiving.cancel()
            clearing.cancel()
