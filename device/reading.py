"""An example of the device's own traffic: a reading for whom it may concern, and no service."""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

from pydantic import BaseModel

from shared.protocol.topics import APP, Topic


class Reading(BaseModel):
    """A measured value; a real device would send a temperature. `uptime_s` is in seconds since the start."""

    uptime_s: float


READING: Final = Topic(f"{APP}/{{client_id}}/up/uptime", Reading)


def source(clock: Callable[[], float]) -> Callable[[], tuple[Topic[Reading], Reading]]:
    """Return the message source of readings, for the uplink; `clock` counts seconds, from any time on."""
    began = clock()
    return lambda: (READING, Reading(uptime_s=round(clock() - began, 3)))
