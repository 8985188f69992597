"""Faults of single messages on the roads of one device."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Final

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
    offered: Callable[[], str | None] | None = None
    """Returns the id of the profile that a test offers: one that the registry offers by itself is lost."""

    async def judge(self, topic: str, payload: bytes) -> int:
        """Return how often a message arrives."""
        if self._is_of_another(topic, payload):
            return 0
        short = topic.split("/", 4)[-1]
        self.counts[short] += 1
        if self.fault is None or (short, self.counts[short]) != self.fault[:2]:
            return 1
        self.happened = True
        if self.fault[2] is MessageFault.LATE:
            await asyncio.sleep(LATE_S)
        return {MessageFault.LOST: 0, MessageFault.DOUBLED: 2, MessageFault.LATE: 1}[self.fault[2]]

    def _is_of_another(self, topic: str, payload: bytes) -> bool:
        if self.offered is None or topics.CONNECTION.match(topic) is None:
            return False
        return topics.CONNECTION.decode(payload).connection_id != self.offered()
