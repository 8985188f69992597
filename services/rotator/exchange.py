"""The leader's answers to devices' messages.

Each change of state is one transaction on the leader's connection, with its messages in the outbox. The secret
itself is never stored for sending: it is sent directly, and a device that misses it requests it again.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime

from services.rotator import queries
from services.rotator.attempt import offer_of
from services.rotator.context import Rotator
from services.rotator.queries import Arrival
from services.rotator.states import AttemptEvent, Step
from shared import crypto
from shared.protocol import events, messages
from shared.runtime.microbatch import MicroBatcher


@dataclass(frozen=True, slots=True)
class Exchange:
    """Answers devices' messages in a rotation."""

    rotator: Rotator
    arrivals: MicroBatcher[str, Arrival] = field(default_factory=MicroBatcher)
    """Devices that have come online, by client id."""

    async def offer_again(self, client_id: str, status: messages.Status) -> messages.RotationOffer | None:
        """Return the open offer of a device that has come online: it may have lost it in a power cut."""
        if not status.online:
            return None
        rotation = (await self.arrivals.submit(client_id)).rotation
        is_open = rotation is not None and rotation.deadline_at > datetime.now(UTC)
        return offer_of(rotation) if rotation is not None and is_open else None

    async def on_online(self, client_id: str) -> None:
        """Let the worker look at once if a device that has come online is due: it may stay for seconds only."""
        if (await self.arrivals.submit(client_id)).state in ("QUEUED", "TIMEOUT"):
            self.rotator.wake.set()

    async def run_lookups(self) -> None:
        """Look up the rotations of devices that have come online, in batches, until cancelled."""
        await self.arrivals.run(self._look_up)

    async def _look_up(self, client_ids: Sequence[str]) -> Sequence[Arrival]:
        async with self.rotator.database.transaction() as session:
            return await queries.arrivals(session, client_ids)

    async def deliver(
        self, client_id: str, request: messages.RotationRequest
    ) -> messages.RotationSecret | messages.RotationDone | messages.RotationCancelled:
        """Return the new secret, the same for each repetition, or the closing message of the rotation."""
        async with self.rotator.attempt(request.rotation_id, client_id) as attempt:
            ended = attempt.how_it_ended()
            if ended is not None:
                return ended
            attempt.advance(AttemptEvent.REQUESTED)
            attempt.check_current_secret(request.proof, "request", self.rotator.vault)
            secret = attempt.secret(self.rotator.vault)
            # Sealed for its own key, if it has one: a thief of its secret cannot read the next one.
            public_key = attempt.device.public_key or request.public_key
            sealed = crypto.seal(secret, public_key) if public_key else None
            if attempt.rotation.delivered_at is None:
                attempt.rotation.delivered_at = datetime.now(UTC)
                attempt.emit(events.ROTATION_DELIVERED, events.RotationFacts(**attempt.ids))
            return messages.RotationSecret(
                rotation_id=request.rotation_id,
                generation=attempt.rotation.generation,
                secret=None if sealed else secret.get_secret_value(),
                jwe=sealed,
            )

    async def accept_stored(
        self, client_id: str, stored: messages.RotationStored
    ) -> messages.RotationSwitch | messages.RotationDone | messages.RotationCancelled | None:
        """Handle the proof that the new secret is in the second slot; None: the switch is still to come."""
        async with self.rotator.attempt(stored.rotation_id, client_id) as attempt:
            ended = attempt.how_it_ended()
            if ended is not None:
                return ended
            if not attempt.proven(stored.proof, "stored", self.rotator.vault):
                return None
            attempt.advance(AttemptEvent.STORED_PROVEN)
            self.rotator.proven.add((stored.rotation_id, "stored"))
            attempt.check_current_secret(stored.current_proof, "current", self.rotator.vault)
            if attempt.rotation.stored_at is None:
                attempt.rotation.stored_at = datetime.now(UTC)
                attempt.emit(events.ROTATION_STORED, events.RotationFacts(**attempt.ids))
            switched = attempt.step == Step.SWITCHED
        self.rotator.wake.set()
        return attempt.switch() if switched else None

    async def accept_ack(
        self, client_id: str, ack: messages.RotationAck
    ) -> messages.RotationDone | messages.RotationCancelled | None:
        """Handle the proof that the device logged in with its new secret; None: `done` follows.

        It may have logged in before the worker could record that the secret is in force: the worker then ends it.
        """
        async with self.rotator.attempt(ack.rotation_id, client_id) as attempt:
            ended = attempt.how_it_ended()
            if ended is not None:
                return ended
            if not attempt.proven(ack.proof, "ack", self.rotator.vault):
                return None
            if attempt.step is Step.SWITCHING:
                self.rotator.proven.add((ack.rotation_id, "ack"))
            else:
                attempt.complete(AttemptEvent.ACK_PROVEN, datetime.now(UTC), self.rotator.vault)
        self.rotator.wake.set()
        return None
