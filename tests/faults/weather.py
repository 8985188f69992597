"""Weather on the road between a device and the broker: the messages of one topic are lost, doubled or late."""

from __future__ import annotations

import asyncio
from enum import StrEnum
from typing import Any

from dev.waiting import PATIENCE_S
from shared.protocol.topics import Topic
from tests.faults.roads import CUT, WatchedRoad
from tests.mqtt_packets import Publication


class Fault(StrEnum):
    """What becomes of the messages of a topic."""

    LOST_ONCE = "lost once"
    LOST = "lost until the deadline"
    DOUBLED = "doubled"
    LATE = "later than the deadline"
    CUT = "arrived, and the connection broke before its acknowledgement"


class Weather:
    """Holds on a watched road until it clears up; `also_lost` never arrives before that."""

    def __init__(self, topic: Topic[Any], fault: Fault, *, also_lost: Topic[Any] | None = None) -> None:
        self._topic = topic
        self._fault = fault
        self._also_lost = also_lost
        self._met = 0
        self._begun = asyncio.Event()
        self._meets = asyncio.Event()
        self._late: list[Publication] = []
        self._is_clear = False

    @property
    def outlasts_the_deadline(self) -> bool:
        """Whether a rotation that needs this topic cannot go on before it clears up."""
        return self._also_lost is not None or self._fault in {Fault.LOST, Fault.LATE}

    async def holds(self) -> None:
        """Wait until something was lost, doubled or held back."""
        async with asyncio.timeout(PATIENCE_S):
            await self._begun.wait()

    async def clear_up(self, road: WatchedRoad) -> None:
        """Wait for a message of the topic, and then let everything through, first of all what is late."""
        async with asyncio.timeout(PATIENCE_S):
            await self._meets.wait()
        self._is_clear = True
        for publication in self._late:
            await road.send(publication)

    async def judge(self, topic: str, payload: bytes) -> int:
        """Return how often a message arrives that is sent now."""
        if self._is_clear:
            return 1
        if self._also_lost is not None and self._also_lost.match(topic) is not None:
            self._begun.set()
            return 0
        if self._topic.match(topic) is None:
            return 1
        self._met += 1
        self._meets.set()
        self._begun.set()
        if self._fault is Fault.LATE:
            self._late.append(Publication(topic, payload, None, retain=self._topic.retain))
        is_first = self._met == 1
        return {
            Fault.LOST_ONCE: 0 if is_first else 1,
            Fault.LOST: 0,
            Fault.DOUBLED: 2,
            Fault.LATE: 0,
            Fault.CUT: CUT if is_first else 1,
        }[self._fault]
