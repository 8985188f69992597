"""The resources of the leader."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from uuid import UUID

import structlog

from services.rotator import campaign_queries, queries
from services.rotator.attempt import Attempt, Proof
from services.rotator.leader import Leadership
from shared import crypto
from shared.database.engine import Database
from shared.database.outbox import Outbox
from shared.errors import UnavailableError

log = structlog.get_logger()


@dataclass(frozen=True, slots=True)
class Rotator:
    """The leader's lock and stores; `wake` is the wake-up event of the worker."""

    leadership: Leadership
    database: Database
    outbox: Outbox
    vault: crypto.Vault
    wake: asyncio.Event = field(default_factory=asyncio.Event)
    proven: set[tuple[UUID, Proof]] = field(default_factory=set)
    """What devices have proven to this leader, by rotation."""
    queue: asyncio.Event = field(default_factory=asyncio.Event)
    """Set while devices are queued or wait for another attempt: else it is nothing to the leader who is online."""
    in_rotation: set[str] = field(default_factory=set)
    """The client ids of the devices in a rotation: the statuses of all others are nothing to the leader."""

    @asynccontextmanager
    async def attempt(self, rotation_id: UUID, client_id: str | None = None) -> AsyncIterator[Attempt]:
        """Lock a rotation for one transaction; NotFoundError if there is none, or none of this device."""
        async with self.leadership.transaction() as session:
            rotation, device, owner = await queries.rotation(session, rotation_id, client_id)
            yield Attempt(session, self.outbox, rotation, device, owner, self.proven)

    async def verify_soon(self, client_id: str) -> None:
        """Make the registry compare a device's credentials now.

        Not on the leader's connection: also used right after its loss.
        """
        try:
            async with self.database.transaction() as session:
                await queries.verify_soon(session, client_id)
        except UnavailableError as error:
            log.warning("rotation.not_verified", client_id=client_id, reason=error.message)

    async def forget_ended(self, keep: timedelta) -> None:
        """Delete the rotations that ended longer ago."""
        is_more = True
        while is_more:
            async with self.database.transaction() as session:
                is_more = await campaign_queries.forget_ended(session, before=datetime.now(UTC) - keep)

    async def count_states(self) -> dict[str, int]:
        """Return the number of devices in each state of rotation."""
        async with self.database.transaction() as session:
            return await queries.count_states(session)
