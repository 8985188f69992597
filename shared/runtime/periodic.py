"""Periodic steps: at an interval, and on a wake-up event."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Awaitable, Callable
from typing import NoReturn

import structlog

from shared.errors import UnavailableError

log = structlog.get_logger()


async def periodic(
    step: Callable[[], Awaitable[object]],
    *,
    every_s: float,
    wake: asyncio.Event | None = None,
    on_outage: str,
) -> NoReturn:
    """Run a step now, every `every_s` seconds and whenever `wake` is set, until cancelled.

    On an UnavailableError the event `on_outage` is logged, and the step is due again after `every_s`. If `wake` is
    set during a step, another step follows.
    """
    while True:
        if wake is not None:
            wake.clear()
        try:
            await step()
        except UnavailableError as error:
            log.warning(on_outage, reason=error.message)
            await asyncio.sleep(every_s)
            continue
        if wake is None:
            await asyncio.sleep(every_s)
        else:
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(every_s):
                    await wake.wait()
