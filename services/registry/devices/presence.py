"""Presence: what devices say of themselves."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import NamedTuple

from sqlalchemy.ext.asyncio import AsyncSession

from services.registry import batch_queries
from services.registry.context import Registry
from shared.database import device_refs
from shared.database.tables import Presence
from shared.protocol import events, messages
from shared.runtime.microbatch import MicroBatcher


class Said(NamedTuple):
    """A device's status, and when it came; a `retained` one may be from long ago."""

    client_id: str
    status: messages.Status
    received_at: datetime
    retained: bool = False


@dataclass(frozen=True, slots=True)
class Presences:
    """Who is there, since when, and with what."""

    registry: Registry
    greet: Callable[[AsyncSession, Sequence[str]], Awaitable[None]]
    """Sends, in the same transaction, what waits for devices that are online now."""
    said: MicroBatcher[Said, bool] = field(default_factory=MicroBatcher)

    async def record(self, said: Said) -> None:
        """Store what a device says of itself; tell when it comes or goes."""
        if not await self.said.ask(said):
            raise device_refs.unknown(said.client_id)

    async def keep(self) -> None:
        """Store what devices say, many at once, until cancelled."""
        await self.said.run(self._store)

    async def _store(self, batch: Sequence[Said]) -> Sequence[bool]:
        """Store all in their order, and send what waits to who is online; return which devices there are."""
        async with self.registry.database.transaction() as session:
            presences = await batch_queries.presences(session, [it.client_id for it in batch])
            for said, presence in zip(batch, presences, strict=True):
                if presence is not None:
                    self._note(session, said, presence)
            came = [it.client_id for it in batch if it.status.online]
            if came:
                await self.greet(session, came)
            return [presence is not None for presence in presences]

    def _note(self, session: AsyncSession, said: Said, presence: Presence) -> None:
        client_id, status, received_at, retained = said
        if retained and presence.online == status.online:
            return  # nothing is known of when it was said: a broker that came back keeps what was before
        if presence.online != status.online:
            event = events.DEVICE_ONLINE if status.online else events.DEVICE_OFFLINE
            self.registry.outbox.emit(session, event, client_id, events.NoFacts())
        presence.online = status.online
        if not retained or presence.last_seen_at is None:
            # Not the time of now: the broker may have dropped it since.
            presence.last_seen_at = received_at
        if status.online:
            presence.status = status.model_dump(mode="json", exclude_none=True)
            presence.firmware_version = status.firmware_version
            presence.firmware_sha256 = status.firmware_sha256
            presence.secret_generation = status.secret_generation
