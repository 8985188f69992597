from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Coroutine, Sequence
from contextlib import asynccontextmanager
from typing import Any

import pytest

from shared.errors import UnavailableError
from shared.runtime import microbatch
from shared.runtime.microbatch import MicroBatcher, Work


@asynccontextmanager
async def running(work: Work[int, str]) -> AsyncIterator[MicroBatcher[int, str]]:
    gathered: MicroBatcher[int, str] = MicroBatcher()
    task = asyncio.create_task(gathered.run(work))
    try:
        yield gathered
    finally:
        task.cancel()
        await asyncio.wait([task])


async def all_of(gathered: MicroBatcher[int, str], questions: Sequence[int]) -> list[Any]:
    return await asyncio.gather(*map(gathered.submit, questions), return_exceptions=True)


class Slow:
    """Work that waits until it is let go; remembers its batches."""

    def __init__(self) -> None:
        self.batches: list[list[int]] = []
        self.begun = asyncio.Event()
        self.go = asyncio.Event()

    async def __call__(self, questions: Sequence[int]) -> list[str]:
        self.batches.append(list(questions))
        self.begun.set()
        await self.go.wait()
        return [str(question) for question in questions]


def failing(fails: Callable[[Sequence[int]], Exception | None]) -> Callable[..., Coroutine[Any, Any, list[str]]]:
    async def work(questions: Sequence[int]) -> list[str]:
        error = fails(questions)
        if error is not None:
            raise error
        return [str(question) for question in questions]

    return work


async def test_what_comes_during_a_batch_is_the_next_one_in_its_order() -> None:
    slow = Slow()
    async with running(slow) as gathered:
        first = asyncio.create_task(gathered.submit(1))
        await slow.begun.wait()
        rest = asyncio.create_task(all_of(gathered, [4, 2, 3, 2]))
        await asyncio.sleep(0)
        slow.go.set()
        assert await first == "1"
        assert await rest == ["4", "2", "3", "2"]
    assert slow.batches == [[1], [4, 2, 3, 2]]


async def test_a_batch_has_a_bound(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(microbatch, "MOST", 3)
    slow = Slow()
    slow.go.set()
    async with running(slow) as gathered:
        assert await all_of(gathered, range(7)) == [str(number) for number in range(7)]
    assert [len(batch) for batch in slow.batches] == [3, 3, 1]


async def test_an_outage_reaches_all_who_wait_and_the_next_are_answered() -> None:
    away = True
    work = failing(lambda _: UnavailableError("away") if away else None)
    async with running(work) as gathered:
        found = await all_of(gathered, [1, 2, 3])
        assert [type(error) for error in found] == [UnavailableError] * 3
        away = False
        assert await gathered.submit(4) == "4"


async def test_only_who_is_the_fault_of_a_failure_fails() -> None:
    work = failing(lambda questions: ValueError("13") if 13 in questions else None)
    async with running(work) as gathered:
        one, bad, two = await all_of(gathered, [1, 13, 2])
    assert (one, two) == ("1", "2")
    assert isinstance(bad, ValueError)


async def test_work_that_forgets_one_answers_nobody_wrongly() -> None:
    async def forgetful(questions: Sequence[int]) -> list[str]:
        return [str(question) for question in questions if question != 2]

    async with running(forgetful) as gathered:
        one, missing, three = await all_of(gathered, [1, 2, 3])
    assert (one, three) == ("1", "3")
    assert isinstance(missing, ValueError)


@pytest.mark.parametrize("when", ["waiting", "in progress"])
async def test_who_gives_up_harms_nobody(when: str) -> None:
    slow = Slow()
    async with running(slow) as gathered:
        first = asyncio.create_task(gathered.submit(0))
        await slow.begun.wait()
        asking = [asyncio.create_task(gathered.submit(number)) for number in (1, 2, 3)]
        await asyncio.sleep(0)
        given_up = first if when == "in progress" else asking[1]
        given_up.cancel()
        slow.go.set()
        await asyncio.wait([first, *asking])
    assert given_up.cancelled()
    assert [task.result() for task in (first, *asking) if task is not given_up] == (
        ["1", "2", "3"] if when == "in progress" else ["0", "1", "3"]
    )
    assert slow.batches == ([[0], [1, 2, 3]] if when == "in progress" else [[0], [1, 3]])


async def test_nobody_waits_for_ever_when_it_ends() -> None:
    slow = Slow()
    async with running(slow) as gathered:
        under_way = asyncio.create_task(gathered.submit(1))
        await slow.begun.wait()
        waiting = asyncio.create_task(gathered.submit(2))
        await asyncio.sleep(0)
    await asyncio.wait([under_way, waiting])
    assert under_way.cancelled()
    assert waiting.cancelled()
