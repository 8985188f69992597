"""Clients that send requests without pauses: each sends the next request when the last is answered."""

from __future__ import annotations

import asyncio
import math
import time
from collections.abc import Callable, Sequence
from typing import Protocol

_PATIENCE_S = 60.0


class Requester(Protocol):
    """A client that sends one request at a time."""

    answered: Callable[[], None]
    """Called when the last request is answered."""

    def send(self) -> None:
        """Send the next request."""
        ...


async def run_load(seconds: float, requesters: Sequence[Requester]) -> list[float]:
    """Run all clients for some seconds, after each was answered once; return the sorted latencies.

    Raise AssertionError if an answer is missing.
    """
    begin_at = math.inf
    took: list[float] = []
    unanswered, pending = set(range(len(requesters))), set(range(len(requesters)))
    all_done = asyncio.Event()

    def start(number: int, requester: Requester) -> None:
        sent_at = time.perf_counter()

        def on_answer() -> None:
            nonlocal sent_at, begin_at
            now = time.perf_counter()
            if begin_at <= sent_at:
                took.append(now - sent_at)
            unanswered.discard(number)
            if not unanswered:
                begin_at = min(begin_at, now)
            if now < begin_at + seconds:
                sent_at = now
                requester.send()
                return
            pending.discard(number)
            if not pending:
                all_done.set()

        requester.answered = on_answer
        requester.send()

    for number, requester in enumerate(requesters):
        start(number, requester)
    try:
        async with asyncio.timeout(seconds + _PATIENCE_S):
            await all_done.wait()
    except TimeoutError:
        raise AssertionError(f"{len(pending)} requests were not answered") from None
    return sorted(took)


def percentile(took: Sequence[float], part: float) -> float:
    """Return this quantile of sorted latencies."""
    return took[min(int(len(took) * part), len(took) - 1)]
