"""What the device measures of itself: its uptime, and what its hooks add."""

from __future__ import annotations

from collections.abc import Callable

from device.options import Hooks
from shared.protocol import messages, topics
from shared.protocol.topics import Topic


def source(hooks: Hooks) -> Callable[[], tuple[Topic[messages.Vitals], messages.Vitals]]:
    """Return the message source of vitals, for the uplink; the uptime counts from this call on."""
    began = hooks.clock()
    return lambda: (
        topics.VITALS,
        messages.Vitals({"uptime_s": round(hooks.clock() - began), **hooks.measure()}),
    )
