"""Combines concurrent queries into batches, so that one database query answers many.

There is no delay: queries that arrive while a batch runs form the next one. So a single query is answered at once,
and the busier a service is, the larger are its batches.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from typing import Final, Generic, TypeVar

from shared.errors import UnavailableError

MOST: Final = 200
"""The largest batch."""

Q = TypeVar("Q")
A = TypeVar("A")
Work = Callable[[Sequence[Q]], Awaitable[Sequence[A]]]
"""Answers all queries of a batch, in their order."""


class MicroBatcher(Generic[Q, A]):
    """Queries that wait for their answers; their number is bounded by that of the callers."""

    def __init__(self) -> None:
        self._waiting: asyncio.Queue[tuple[Q, asyncio.Future[A]]] = asyncio.Queue()

    async def submit(self, question: Q) -> A:
        """Return the answer to this query, or raise its error."""
        answer: asyncio.Future[A] = asyncio.get_running_loop().create_future()
        self._waiting.put_nowait((question, answer))
        return await answer

    async def run(self, work: Work[Q, A]) -> None:
        """Run one batch after the other until cancelled; queries that still wait are then cancelled too."""
        batch: list[tuple[Q, asyncio.Future[A]]] = []
        try:
            while True:
                batch = [await self._waiting.get()]
                while len(batch) < MOST and not self._waiting.empty():
                    batch.append(self._waiting.get_nowait())
                await _answer([(question, answer) for question, answer in batch if not answer.done()], work)
        finally:
            while not self._waiting.empty():
                batch.append(self._waiting.get_nowait())
            for _, answer in batch:
                answer.cancel()


async def _answer(batch: Sequence[tuple[Q, asyncio.Future[A]]], work: Work[Q, A]) -> None:
    """Answer all; if one query fails because of its content, only that one fails."""
    if not batch:
        return
    try:
        answered = list(zip(batch, await work([question for question, _ in batch]), strict=True))
    except UnavailableError as error:
        _fail(batch, error)
    except Exception as error:  # noqa: BLE001 - raised in the caller of the query
        if len(batch) == 1:
            _fail(batch, error)
        else:
            for one in batch:
                await _answer([one], work)
    else:
        for (_, answer), found in answered:
            if not answer.done():
                answer.set_result(found)


def _fail(batch: Sequence[tuple[Q, asyncio.Future[A]]], error: Exception) -> None:
    for _, answer in batch:
        if not answer.done():
            answer.set_exception(error)
