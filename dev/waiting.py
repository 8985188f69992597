"""Polls things that emit no events: logs, rows, metrics of a service."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable
from typing import Final, TypeVar

from dev.servers.base import Server

PATIENCE_S: Final = 90.0
MAX_SHOWN: Final = 2000
"""Maximum number of characters of a value in a message."""
_PAUSE_S: Final = 0.05
"""Between two polls, so that a waiting test leaves the processor to the services."""
_LONGEST_PAUSE_S: Final = 0.25
_SHARE: Final = 0.1
"""Each pause is this share of the time waited so far, which delays a test by that share at most."""
T = TypeVar("T")


class NotSeenError(AssertionError):
    """An expected condition was not observed."""


async def until(
    look: Callable[[], Awaitable[T]], holds: Callable[[T], object] = bool, *, within_s: float = PATIENCE_S
) -> T:
    """Poll until a condition holds, and return the value. Raise NotSeenError with the last value."""
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
    """Wait for a log line with all these words, after a number of bytes or since the server's last start."""

    def found() -> bool:
        lines = server.log_since(beyond).splitlines()
        return any(all(word.encode() in line for word in words) for line in lines)

    await until(lambda: asyncio.to_thread(found))
