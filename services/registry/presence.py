"""Presence: what devices say of themselves."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import TypeAlias

from sqlalchemy.ext.asyncio import AsyncSession

from services.registry import batch_db
from services.registry.service import Registry
from shared import messages, names
from shared.batches import Batches
from shared.schema import Presence

Said: TypeAlias = tuple[str, messages.Status]
"""A client id, and its status."""


@dataclass(frozen=True, slots=True)
class Presences:
    """Who is there, since when, and with what."""

    registry: Registry

    said: Batches[Said, bool] = field(default_factory=Batches)

    async def record(self, client_id: str, status: messages.Status) -> None:
        """Store what a device says of itself; tell when it comes or goes."""
        if not await self.said.ask((client_id, status)):
            raise names.unknown(client_id)

    async def keep(self) -> None:
        """Store what devices say, many at once, until cancelled."""
        await self.said.run(self._store)

    async def _store(self, batch: Sequence[Said]) -> Sequence[bool]:
        """Store all in their order; return which devices there are."""
        async with self.registry.database.transaction() as session:
            presences = await batch_db.presences(session, [client_id for client_id, _ in batch])
            for (client_id, status), presence in zip(batch, presences, strict=True):
                if presence is not None:
                    self._note(session, client_id, status, presence)
            return [presence is not None for presence in presences]

    def _note(self, session: AsyncSession, client_id: str, status: messages.Status, presence: Presence) -> None:
        if presence.online != status.online:
            self.registry.outbox.tell(session, f"device/{'online' if status.online else 'offline'}", client_id)
        presence.online = status.online
        presence.last_seen_at = datetime.now(UTC)
        if status.online:
            presence.status = status.model_dump(mode="json", exclude_none=True)
            presence.firmware_version = status.firmware_version
            presence.firmware_sha256 = status.firmware_sha256
            presence.secret_generation = status.secret_generation
