"""Periodic steps: at an interval, and on a wake-up event."""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import Awaitable, Callable
from typing import Final, NoReturn

import structlog

from shared.errors import UnavailableError

log = structlog.get_logger()
SCAN_PAUSE: Final = 50
"""What looks at all devices pauses so many times as long as that took: 2 % of the time, however many there are."""


async def periodic(
    step: Callable[[], Awaitable[object]],
    *,
    every_s: float,
    pause: int = 0,
    wake: asyncio.Event | None = None,
    on_outage: str,
) -> NoReturn:
    """Run a step now, every `every_s` seconds and whenever `wake` is set, until cancelled.

    A pause takes `every_s`, or `pause` times as long as the shorter one of the last two steps if that is longer: a
    step that had to wait for something is no sign of how long the next takes.

    On an UnavailableError the event `on_outage` is logged, and the step is due again after `every_s`. If `wake` is
    set during a step, another step follows.
    """
    before_s = 0.0
    while True:
        if wake is not None:
            wake.clear()
        began = time.monotonic()
        try:
            await step()
        except UnavailableError as error:
            log.warning(on_outage, reason=error.message)
            await asyncio.sleep(every_s)
            continue
        took_s = time.monotonic() - began
        pause_s = max(every_s, pause * min(took_s, before_s))
        before_s = took_s
        if wake is None:
            await asyncio.sleep(pause_s)
        else:
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(pause_s):
                    await wake.wait()
