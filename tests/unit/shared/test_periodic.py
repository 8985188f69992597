from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager, suppress
from itertools import pairwise

import pytest

from shared.errors import UnavailableError
from shared.runtime.periodic import periodic

LONG_S = 3600.0


@asynccontextmanager
async def running(
    step: Callable[[], Awaitable[None]], *, every_s: float, wake: asyncio.Event | None = None
) -> AsyncIterator[None]:
    task = asyncio.create_task(periodic(step, every_s=every_s, wake=wake, on_outage="test.waits"))
    try:
        yield
    finally:
        task.cancel()
        with suppress(asyncio.CancelledError):
            await task


async def test_a_step_is_repeated_at_its_interval() -> None:
    steps: asyncio.Queue[None] = asyncio.Queue()
    async with running(lambda: steps.put(None), every_s=0.001), asyncio.timeout(5):
        for _ in range(3):
            await steps.get()


async def test_what_wakes_it_during_a_step_makes_another_step_follow() -> None:
    wake, steps = asyncio.Event(), 0
    done = asyncio.Event()

    async def step() -> None:
        nonlocal steps
        steps += 1
        (wake if steps == 1 else done).set()

    async with running(step, every_s=LONG_S, wake=wake), asyncio.timeout(5):
        await done.wait()
    assert steps == 2


async def test_a_pause_is_a_multiple_of_what_two_steps_took() -> None:
    """However much there is to look at, looking takes the same share of the time; one slow step is no sign."""
    began: list[float] = []
    slow = {1, 3, 4}
    last = asyncio.Event()

    async def step() -> None:
        began.append(time.monotonic())
        if len(began) == 6:
            last.set()
        await asyncio.sleep(0.3 if len(began) in slow else 0)

    task = asyncio.create_task(periodic(step, every_s=0.001, pause=10, on_outage="test.waits"))
    async with asyncio.timeout(60):
        await last.wait()
    task.cancel()
    gaps = [after - before for before, after in pairwise(began)]
    assert [gap > 3 for gap in gaps] == [False, False, False, True, False]


async def test_an_outage_is_waited_out_even_if_something_wakes_it_all_the_time() -> None:
    wake, steps = asyncio.Event(), 0

    async def step() -> None:
        nonlocal steps
        steps += 1
        wake.set()
        raise UnavailableError("away")

    async with running(step, every_s=LONG_S, wake=wake):
        for _ in range(10):
            await asyncio.sleep(0)
    assert steps == 1


async def test_any_other_error_ends_it() -> None:
    async def step() -> None:
        raise ValueError("a fault of ours")

    with pytest.raises(ValueError, match="a fault of ours"):
        await periodic(step, every_s=LONG_S, on_outage="test.waits")
