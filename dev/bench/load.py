"""Many who ask without a pause: each sends its next question when it has the answer to the last."""

from __future__ import annotations

import asyncio
import math
import time
from collections.abc import Callable, Sequence
from typing import Protocol

_PATIENCE_S = 60.0


class Asker(Protocol):
    """Somebody who asks one question at a time."""

    answered: Callable[[], None]
    """Called when the answer to the last question is there."""

    def ask(self) -> None:
        """Send the next question."""
        ...


async def ask_for(seconds: float, askers: Sequence[Asker]) -> list[float]:
    """Let all ask for some seconds, once each has been answered; return how long each answer took, sorted.

    Raise AssertionError if one is missing.
    """
    begin_at = math.inf
    took: list[float] = []
    unheard, asking = set(range(len(askers))), set(range(len(askers)))
    all_done = asyncio.Event()

    def start(number: int, asker: Asker) -> None:
        asked_at = time.perf_counter()

        def on_answer() -> None:
            nonlocal asked_at, begin_at
            now = time.perf_counter()
            if begin_at <= asked_at:
                took.append(now - asked_at)
            unheard.discard(number)
            if not unheard:
                begin_at = min(begin_at, now)
            if now < begin_at + seconds:
                asked_at = now
                asker.ask()
                return
            asking.discard(number)
            if not asking:
                all_done.set()

        asker.answered = on_answer
        asker.ask()

    for number, asker in enumerate(askers):
        start(number, asker)
    try:
        async with asyncio.timeout(seconds + _PATIENCE_S):
            await all_done.wait()
    except TimeoutError:
        raise AssertionError(f"{len(asking)} questions were not answered") from None
    return sorted(took)


def percentile(took: Sequence[float], part: float) -> float:
    """Return the time within which this part of all, which are sorted, was answered."""
    return took[min(int(len(took) * part), len(took) - 1)]
