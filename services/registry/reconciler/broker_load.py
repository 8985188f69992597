"""Findings about what nothing in the broker limits, for a person."""

from __future__ import annotations

from typing import Final

import structlog

from shared.mqtt import retained
from shared.mqtt.connection import Connection
from shared.protocol import admin, topics

log = structlog.get_logger()
SPARE: Final = 1_000
PER_DEVICE: Final = 100


async def findings(connection: Connection, devices: int) -> list[admin.Finding]:
    """Return a finding if the broker, a Mosquitto, holds more retained messages than so many devices need."""
    said = await retained.message(connection, topics.BROKER_RETAINED.template)
    count = int(said) if said else 0
    if count <= SPARE + PER_DEVICE * devices:
        return []
    log.warning("broker.many_retained", count=count, devices=devices)
    return [
        admin.Finding(
            subject="broker",
            problem=f"it holds {count} retained messages for {devices} devices, and they fill its memory",
            remedy="find out whose they are, and disable that device: `floods` in docs/operations.md",
            repaired=False,
        )
    ]
