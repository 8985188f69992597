"""Looks again and again at what tells nobody when it changes: a log, a row, the metrics of a service."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable
from typing import Final, TypeVar

from dev.servers.base import Server

PATIENCE_S: Final = 45.0
MAX_SHOWN: Final = 2000
"""So many characters of what was seen are told."""
_PAUSE_S: Final = 0.02
"""Between two looks: without it a waiting test takes the processor from those that it waits for."""
_LONGEST_PAUSE_S: Final = 0.25
_SHARE: Final = 0.1
"""After a long wait so much more of it costs little, and so do looks that are further apart."""
T = TypeVar("T")


class NotSeenError(AssertionError):
    """What should have happened was not seen."""


async def until(
    look: Callable[[], Awaitable[T]], holds: Callable[[T], object] = bool, *, within_s: float = PATIENCE_S
) -> T:
    """Look until it holds, and return what was seen. Raise NotSeenError with the last look."""
    last = await look()
    begun = time.monotonic()
    try:
        async with asyncio.timeout(within_s):
            while not holds(last):
                share_s = (time.monotonic() - begun) * _SHARE
                await asyncio.sleep(min(max(share_s, _PAUSE_S), _LONGEST_PAUSE_S))
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
