"""Looks again and again at what tells nobody when it changes: a log, a row, the metrics of a service."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import Final, TypeVar

from dev.servers.base import Server

PATIENCE_S: Final = 45.0
MAX_SHOWN: Final = 2000
"""So many characters of what was seen are told."""
_PAUSE_S: Final = 0.02
"""Between two looks: without it a waiting test takes the processor from those that it waits for."""
T = TypeVar("T")


class NotSeenError(AssertionError):
    """What should have happened was not seen."""


async def until(
    look: Callable[[], Awaitable[T]], holds: Callable[[T], object] = bool, *, within_s: float = PATIENCE_S
) -> T:
    """Look until it holds, and return what was seen. Raise NotSeenError with the last look."""
    last = await look()
    try:
        async with asyncio.timeout(within_s):
            while not holds(last):
                await asyncio.sleep(_PAUSE_S)
                last = await look()
    except TimeoutError:
        raise NotSeenError(f"not so within {within_s:g} s: {str(last)[:MAX_SHOWN]}") from None
    return last


async def logged(server: Server, *words: str, beyond: int | None = None) -> None:
    """Wait until a log has a line with all these words behind so many bytes, or since the server's last start."""

    def found() -> bool:
        lines = server.log_since(beyond).splitlines()
        return any(all(word.encode() in line for word in words) for line in lines)

    await until(lambda: asyncio.to_thread(found))
