"""Presence: what devices say of themselves."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime

from services.registry import db
from services.registry.service import Registry
from shared import messages


@dataclass(frozen=True, slots=True)
class Presences:
    """Who is there, since when, and with what."""

    registry: Registry

    async def record(self, client_id: str, status: messages.Status) -> None:
        """Store what a device says of itself; tell when it comes or goes."""
        async with self.registry.database.transaction() as session:
            presence = await db.presence(session, client_id)
            if presence.online != status.online:
                self.registry.outbox.tell(session, f"device/{'online' if status.online else 'offline'}", client_id)
            presence.online = status.online
            presence.last_seen_at = datetime.now(UTC)
            if status.online:
                presence.status = status.model_dump(mode="json", exclude_none=True)
                presence.firmware_version = status.firmware_version
                presence.firmware_sha256 = status.firmware_sha256
                presence.secret_generation = status.secret_generation
