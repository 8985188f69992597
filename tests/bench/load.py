"""Many who ask without a pause: each sends its next question when it has the answer to the last."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Sequence
from typing import Protocol

WARM_UP_S = 0.5
_PATIENCE_S = 30.0


class Asker(Protocol):
    """Somebody who asks one question at a time."""

    answered: Callable[[], None]
    """Called when the answer to the last question is there."""

    def ask(self) -> None:
        """Send the next question."""
        ...


async def ask_for(seconds: float, askers: Sequence[Asker]) -> list[float]:
    """Let all ask for some seconds after a warm-up; return how long each answer took. Raise if one is missing."""
    begin_at = time.perf_counter() + WARM_UP_S
    end_at = begin_at + seconds
    took: list[float] = []
    asking = set(range(len(askers)))
    all_done = asyncio.Event()

    def start(number: int, asker: Asker) -> None:
        asked_at = time.perf_counter()

        def on_answer() -> None:
            nonlocal asked_at
            now = time.perf_counter()
            if begin_at <= now < end_at:
                took.append(now - asked_at)
            if now < end_at:
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
        async with asyncio.timeout(WARM_UP_S + seconds + _PATIENCE_S):
            await all_done.wait()
    except TimeoutError:
        raise AssertionError(f"{len(asking)} questions were never answered") from None
    return sorted(took)


def percentile(took: Sequence[float], part: float) -> float:
    """Return the time within which this part of all, which are sorted, was answered."""
    return took[min(int(len(took) * part), len(took) - 1)]
