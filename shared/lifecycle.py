"""Start and stop of a service: SIGTERM or Ctrl-C cancels its main task, which closes what it opened."""

from __future__ import annotations

import asyncio
import contextlib
import signal
import sys
from collections.abc import Awaitable, Callable
from typing import TypeVar

from shared import log, metrics
from shared.environment import load
from shared.errors import FleetError
from shared.settings import Settings

S = TypeVar("S", bound=Settings)


def run(service: str, kind: type[S], main: Callable[[S], Awaitable[None]]) -> None:
    """Run `main(settings)` until a signal ends it.

    A wrong setting ends the process with its name, also one that shows only in use, as a port that is taken.
    """
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

    try:
        asyncio.run(until_signal())
    except FleetError as error:
        sys.exit(f"{service}: {error.message}")
