"""Health check of a service by the age of a file: `python -m shared.runtime.health FILE` exits with 0 if so."""

from __future__ import annotations

import asyncio
import sys
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager, suppress
from pathlib import Path
from typing import Final

EVERY_S: Final = 5.0
FRESH_S: Final = 20.0
"""Age at which the file means that the service does not work, or that its event loop hangs."""


def is_fresh(file: Path) -> bool:
    """Return whether the file is young enough."""
    try:
        return time.time() - file.stat().st_mtime < FRESH_S
    except FileNotFoundError:
        return False


@asynccontextmanager
async def kept_fresh(
    file: Path | None, works: Callable[[], Awaitable[bool]], *, every_s: float = EVERY_S
) -> AsyncIterator[None]:
    """Touch the file periodically while the service `works` and the block runs; None: do nothing."""
    task = None if file is None else asyncio.create_task(_touch_periodically(file, works, every_s), name="health")
    try:
        yield
    finally:
        if task is not None:
            task.cancel()
            with suppress(asyncio.CancelledError):
                await task


async def _touch_periodically(file: Path, works: Callable[[], Awaitable[bool]], every_s: float) -> None:
    while True:
        _touch(file, working=await works())
        await asyncio.sleep(every_s)


def _touch(file: Path, *, working: bool) -> None:
    if working:
        file.touch()
    else:
        file.unlink(missing_ok=True)


def main() -> int:
    """Return the exit status for a container's health check."""
    return 0 if is_fresh(Path(sys.argv[1])) else 1


if __name__ == "__main__":
    sys.exit(main())
