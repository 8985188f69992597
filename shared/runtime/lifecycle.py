"""Start and stop of a service: SIGTERM or Ctrl-C cancels its main task, which closes what it opened."""

from __future__ import annotations

import asyncio
import contextlib
import ctypes
import platform
import resource
import signal
import sys
from collections.abc import Awaitable, Callable
from typing import Final, TypeVar

from shared.errors import FleetError, first
from shared.runtime import log, metrics
from shared.runtime.environment import load
from shared.runtime.settings import ProcessSettings

S = TypeVar("S", bound=ProcessSettings)

_LARGE_BYTES: Final = 16 * 1024
"""Size of a large block: a chunk of an image, or more."""
_M_MMAP_THRESHOLD: Final = -3
"""From glibc's malloc.h, see mallopt(3)."""


def run(service: str, kind: type[S], main: Callable[[S], Awaitable[None]]) -> None:
    """Run `main(settings)` until a signal ends it.

    An invalid setting ends the process and is named, also one that fails only in use, such as a port that is
    taken.
    """
    _return_large_blocks()
    _raise_file_limit()
    try:
        settings = load(kind)
        log.configure(settings, service=service)
        metrics.serve(settings.metrics_port)
    except FleetError as error:
        sys.exit(f"{service}: {error.message}")

    async def until_signal() -> None:
        task = asyncio.ensure_future(main(settings))
        loop = asyncio.get_running_loop()
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(number, task.cancel)
        with contextlib.suppress(asyncio.CancelledError):
            await task

    failed: FleetError | None = None
    try:
        asyncio.run(until_signal())
    except* FleetError as group:
        failed = first(group)
    if failed is not None:
        sys.exit(f"{service}: {failed.message}")


def _return_large_blocks() -> None:
    """Make glibc return large blocks to the system as soon as they are free.

    In its heap, small long-lived blocks would lie between them, and the heap would grow for hours.
    """
    if platform.libc_ver()[0] == "glibc":
        ctypes.CDLL(None).mallopt(_M_MMAP_THRESHOLD, _LARGE_BYTES)


def _raise_file_limit() -> None:
    """Raise this process's limit of open files, and so of connections, to the hard limit.

    The usual soft limit of 1024 is for programs that use select(2); none does here.
    """
    _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    if most != resource.RLIM_INFINITY:  # macOS takes a number only
        resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))
