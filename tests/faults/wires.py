"""Faults of single messages between devices of this process and their broker."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Final
from weakref import WeakKeyDictionary

import pytest

from device.link import Link
from shared.protocol import topics

LATE_S: Final = 1.0


class MessageFault(StrEnum):
    """What becomes of one message."""

    LOST = "lost"
    DOUBLED = "doubled"
    LATE = "late"


@dataclass(slots=True)
class Wire:
    """Counts a device's messages by topic, and lets a fault happen to one of them."""

    fault: tuple[str, int, MessageFault] | None = None
    happened: bool = False
    counts: Counter[str] = field(default_factory=Counter)

    def pass_on(self, topic: str) -> MessageFault | None:
        """Return what becomes of a message."""
        short = topic.split("/", 4)[-1]
        self.counts[short] += 1
        if self.fault is None or (short, self.counts[short]) != self.fault[:2]:
            return None
        self.happened = True
        return self.fault[2]


@dataclass(slots=True)
class Wires:
    """The wires of all devices of this process, by client id.

    What the registry itself wants of a device is lost: it knows nothing of the profiles that a test offers.
    """

    offered: Callable[[str], str | None]
    """Returns the id of the profile that a test offers to a client."""
    by_client_id: dict[str, Wire] = field(default_factory=dict)
    _again: WeakKeyDictionary[Link, tuple[str, bytes]] = field(default_factory=WeakKeyDictionary)

    def begin(self, monkeypatch: pytest.MonkeyPatch) -> None:
        """Come between the devices and the broker."""
        publish, receive = Link.publish, Link.receive

        async def publish_through(link: Link, topic: str, payload: bytes, *, qos: int, retain: bool) -> None:
            fault = self._fault(topic)
            await asyncio.sleep(LATE_S if fault is MessageFault.LATE else 0)
            copies = {None: 1, MessageFault.LOST: 0, MessageFault.DOUBLED: 2, MessageFault.LATE: 1}[fault]
            for _ in range(copies):
                await publish(link, topic, payload, qos=qos, retain=retain)

        async def receive_through(link: Link) -> tuple[str, bytes]:
            while True:
                if link in self._again:
                    return self._again.pop(link)
                message = await receive(link)
                if self._is_of_another(*message):
                    continue
                fault = self._fault(message[0])
                if fault is MessageFault.LOST:
                    continue
                if fault is MessageFault.DOUBLED:
                    self._again[link] = message
                await asyncio.sleep(LATE_S if fault is MessageFault.LATE else 0)
                return message

        monkeypatch.setattr(Link, "publish", publish_through)
        monkeypatch.setattr(Link, "receive", receive_through)

    def _is_of_another(self, topic: str, payload: bytes) -> bool:
        names = topics.CONNECTION.match(topic)
        if names is None or names["client_id"] not in self.by_client_id:
            return False
        return topics.CONNECTION.decode(payload).connection_id != self.offered(names["client_id"])

    def _fault(self, topic: str) -> MessageFault | None:
        wire = self.by_client_id.get(topic.split("/")[3])
        return None if wire is None else wire.pass_on(topic)
