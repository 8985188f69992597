from __future__ import annotations

import asyncio
from collections import Counter
from contextlib import AsyncExitStack

import pytest
from hypothesis import given
from hypothesis import strategies as st

from services.firmware.delivery.fair_queue import FairQueue, Queued
from shared.protocol.messages import FirmwareChunkRequest

WINDOW = 4


def piece(number: int) -> FirmwareChunkRequest:
    return FirmwareChunkRequest(sha256="a" * 64, offset=100 * number, length=100)


async def taken(turns: FairQueue) -> tuple[str, int]:
    async with turns.next_request() as (client_id, request):
        return client_id, request.offset // 100


async def is_idle(turns: FairQueue) -> bool:
    """Say whether nobody has a turn, after all that is ready has run."""
    waiting = asyncio.ensure_future(taken(turns))
    for _ in range(5):
        await asyncio.sleep(0)
    return waiting.cancel()


async def test_each_device_has_its_turn_however_much_another_asks_for() -> None:
    turns = FairQueue(WINDOW)
    for number in range(1000):
        turns.put("flooder", piece(number))
    for name in "abc":
        turns.put(name, piece(0))
        turns.put(name, piece(1))

    order = [(await taken(turns))[0] for _ in range(10)]

    assert order == ["flooder", "a", "b", "c", "flooder", "a", "b", "c", "flooder", "flooder"]
    assert await is_idle(turns)
    assert len(turns) == 0


async def test_of_a_device_that_asks_for_too_much_the_newest_requests_are_answered() -> None:
    turns = FairQueue(WINDOW)

    asked = [turns.put("a", piece(number)) for number in range(6)]

    assert asked == [Queued.WAITS] * 4 + [Queued.DISPLACED] * 2
    assert [await taken(turns) for _ in range(4)] == [("a", number) for number in range(2, 6)]
    assert await is_idle(turns)


async def test_a_request_that_waits_or_is_being_answered_is_not_answered_twice() -> None:
    turns = FairQueue(WINDOW)
    turns.put("a", piece(0))
    assert turns.put("a", piece(0)) is Queued.REPEATED

    async with turns.next_request():
        assert turns.put("a", piece(0)) is Queued.REPEATED
        assert await is_idle(turns)
    assert await is_idle(turns)

    assert turns.put("a", piece(0)) is Queued.WAITS
    assert await taken(turns) == ("a", 0)


async def test_a_device_has_a_window_of_answers_under_way_and_what_it_asks_meanwhile_is_not_lost() -> None:
    turns = FairQueue(WINDOW)
    for number in range(WINDOW):
        turns.put("a", piece(number))
    async with AsyncExitStack() as under_way:
        for _ in range(WINDOW):
            await under_way.enter_async_context(turns.next_request())
        assert turns.put("a", piece(4)) is Queued.WAITS
        assert await is_idle(turns)
        turns.put("b", piece(0))
        assert await taken(turns) == ("b", 0)

    assert await taken(turns) == ("a", 4)


async def test_an_answer_that_fails_or_is_cancelled_leaves_nothing_behind() -> None:
    turns = FairQueue(1)
    turns.put("a", piece(0))
    with pytest.raises(RuntimeError):
        async with turns.next_request():
            raise RuntimeError

    assert len(turns) == 0
    turns.put("a", piece(1))
    assert await taken(turns) == ("a", 1)


@given(
    window=st.integers(1, 5),
    steps=st.lists(st.one_of(st.tuples(st.sampled_from("abcd"), st.integers(0, 9)), st.none()), max_size=60),
)
def test_what_waits_is_bounded_and_all_of_it_is_answered_once(
    window: int, steps: list[tuple[str, int] | None]
) -> None:
    async def live() -> None:
        turns = FairQueue(window)
        expected: Counter[tuple[str, int]] = Counter()
        waiting: dict[str, list[int]] = {name: [] for name in "abcd"}
        answered: Counter[tuple[str, int]] = Counter()

        async def take() -> None:
            name, number = await taken(turns)
            waiting[name].remove(number)
            answered[name, number] += 1

        for step in steps:
            if step is None:
                if any(waiting.values()):
                    await take()
                continue
            name, number = step
            asked = turns.put(name, piece(number))
            if asked is Queued.REPEATED:
                assert number in waiting[name]
                continue
            waiting[name].append(number)
            expected[name, number] += 1
            if asked is Queued.DISPLACED:
                expected[name, waiting[name].pop(0)] -= 1
            assert len(waiting[name]) <= window
        while any(waiting.values()):
            await take()
        assert +answered == +expected
        assert len(turns) == 0

    asyncio.run(live())
