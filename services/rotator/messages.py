"""What the leader does at a message: it takes the device's word.

Each change of state is one transaction on the leader's connection, with what must be said of it in the outbox.
The secret itself is never stored for sending: it is answered straight, and a device that misses it asks again.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from uuid import UUID

import structlog

from services.rotator import queries
from services.rotator.attempt import Attempt, offer_of
from services.rotator.leader import Leadership
from services.rotator.states import Event, Step
from shared.auth import crypto
from shared.database.engine import Database
from shared.database.outbox import Outbox
from shared.protocol import messages
from shared.protocol.errors import UnavailableError
from shared.runtime.microbatch import Batches

log = structlog.get_logger()


@dataclass(frozen=True, slots=True)
class Rotator:
    """The leader's tools; `rung` wakes its sweep when there is something to do."""

    leadership: Leadership
    database: Database
    outbox: Outbox
    vault: crypto.Vault
    rung: asyncio.Event = field(default_factory=asyncio.Event)
    heard: set[UUID] = field(default_factory=set)
    """Rotations whose new secret the device has said to this leader that it has stored."""
    came: Batches[str, messages.RotationOffer | None] = field(default_factory=Batches)
    """Who has come online, by client id."""

    @asynccontextmanager
    async def attempt(self, rotation_id: UUID, client_id: str | None = None) -> AsyncIterator[Attempt]:
        """Lock a rotation for one transaction; NotFoundError if there is none, or none of this device."""
        async with self.leadership.transaction() as session:
            rotation, device, owner = await queries.rotation(session, rotation_id, client_id)
            yield Attempt(session, self.outbox, rotation, device, owner, self.heard)

    async def offer_again(self, client_id: str, status: messages.Status) -> messages.RotationOffer | None:
        """Return the offer that waits for a device that has come online: it may have lost it with its power."""
        return await self.came.ask(client_id) if status.online else None

    async def look_up(self) -> None:
        """Look for the offers of devices that have come online, of many at once, until cancelled."""
        await self.came.run(self._offers)

    async def _offers(self, client_ids: Sequence[str]) -> Sequence[messages.RotationOffer | None]:
        async with self.database.transaction() as session:
            rotations = await queries.waiting(session, client_ids)
        now = datetime.now(UTC)
        return [offer_of(it) if it is not None and it.deadline_at > now else None for it in rotations]

    async def deliver(
        self, client_id: str, request: messages.RotationRequest
    ) -> messages.RotationSecret | messages.RotationDone | messages.RotationCancelled:
        """Return the new secret, the same one however often it is asked for, or how the rotation ended."""
        async with self.attempt(request.rotation_id, client_id) as attempt:
            ended = attempt.how_it_ended()
            if ended is not None:
                return ended
            attempt.advance(Event.REQUESTED)
            attempt.check_current_secret(request.proof, "request", self.vault)
            secret = attempt.secret(self.vault)
            # For its own key, if it has one: who has stolen its secret cannot read the next one.
            public_key = attempt.device.public_key or request.public_key
            sealed = crypto.seal(secret, public_key) if public_key else None
            if attempt.rotation.delivered_at is None:
                attempt.rotation.delivered_at = datetime.now(UTC)
                attempt.tell("rotation/delivered")
            return messages.RotationSecret(
                rotation_id=request.rotation_id,
                generation=attempt.rotation.generation,
                secret=None if sealed else secret.get_secret_value(),
                jwe=sealed,
            )

    async def take_stored(
        self, client_id: str, stored: messages.RotationStored
    ) -> messages.RotationSwitch | messages.RotationDone | messages.RotationCancelled | None:
        """Take the proof that the new secret lies in the second slot; None: the switch is still to come."""
        async with self.attempt(stored.rotation_id, client_id) as attempt:
            ended = attempt.how_it_ended()
            if ended is not None:
                return ended
            if not attempt.proven(stored.proof, "stored", self.vault):
                return None
            attempt.advance(Event.STORED_PROVEN)
            self.heard.add(stored.rotation_id)
            attempt.check_current_secret(stored.current_proof, "current", self.vault)
            if attempt.rotation.stored_at is None:
                attempt.rotation.stored_at = datetime.now(UTC)
                attempt.tell("rotation/stored")
            switched = attempt.step == Step.SWITCHED
        self.rung.set()
        return attempt.switch() if switched else None

    async def take_ack(
        self, client_id: str, ack: messages.RotationAck
    ) -> messages.RotationDone | messages.RotationCancelled | None:
        """Take the proof that the device logged in with its new secret; None: `done` is in the outbox."""
        async with self.attempt(ack.rotation_id, client_id) as attempt:
            ended = attempt.how_it_ended()
            if ended is not None:
                return ended
            if attempt.proven(ack.proof, "ack", self.vault):
                attempt.complete(Event.ACK_PROVEN, datetime.now(UTC), self.vault)
        self.rung.set()
        return None

    async def verify_soon(self, client_id: str) -> None:
        """Have what Keycloak and the broker hold of a device compared with its row now, by the registry.

        Not on the leader's connection: it is for one that has just lost it.
        """
        try:
            async with self.database.transaction() as session:
                await queries.verify_soon(session, client_id)
        except UnavailableError as error:
            log.warning("rotation.not_verified", client_id=client_id, reason=error.message)

    async def count_states(self) -> dict[str, int]:
        """Return how many devices are in each state of rotation."""
        async with self.database.transaction() as session:
            return await queries.count_states(session)
