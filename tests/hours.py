"""The change of the hour, for tests of what is kept by the hour."""

from __future__ import annotations

import asyncio
import time
from typing import Final

HOUR_S: Final = 3600.0
MARGIN_S: Final = 45.0
"""Longer than a test takes."""


async def hour_has_begun() -> None:
    """Wait for the next hour if this one is about to end: there is a row of vitals for each."""
    left_s = HOUR_S - time.time() % HOUR_S
    if left_s < MARGIN_S:
        await asyncio.sleep(left_s)
