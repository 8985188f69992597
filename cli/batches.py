"""Concurrent requests with a progress bar."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Collection
from typing import Final, TypeVar

from cli import bars

AT_ONCE: Final = 6

T = TypeVar("T")


async def each(things: Collection[T], work: Callable[[T], Awaitable[object]], *, label: str) -> None:
    """Run `work` for each thing, AT_ONCE at a time; the first failure cancels the others and is raised."""
    free = asyncio.Semaphore(AT_ONCE)
    with bars.progress(in_bytes=False) as bar:
        counted = bar.add_task(label, total=len(things))

        async def one(thing: T) -> None:
            async with free:
                await work(thing)
                bar.advance(counted)

        try:
            async with asyncio.TaskGroup() as tasks:
                for thing in things:
                    tasks.create_task(one(thing))
        except ExceptionGroup as group:
            raise group.exceptions[0] from None
