"""One attempt of a rotation: its row, its transitions, and its messages."""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Final, Literal, TypeAlias, TypedDict, get_args
from uuid import UUID

from pydantic import SecretStr
from sqlalchemy.ext.asyncio import AsyncSession

from services.rotator import states
from services.rotator.states import AttemptEvent, Step
from shared import crypto
from shared.crypto import Held
from shared.database.outbox import Outbox
from shared.database.tables import VERIFY_AFTER, Device, Rotation
from shared.protocol import events, messages, topics
from shared.protocol.events import DeviceEvent, F
from shared.runtime import metrics

Proof: TypeAlias = Literal["stored", "ack"]
"""That a device has stored its new secret, and that it has logged in with it."""
_REASONS: Final = {
    Step.TIMEOUT: "timed out; the old secret is in force",
    Step.WITHDRAWN: "withdrawn as the device had left; the old secret is in force",
}


def offer_of(rotation: Rotation) -> messages.RotationOffer:
    """Return the offer of the new secret."""
    return messages.RotationOffer(
        rotation_id=rotation.id,
        deadline=rotation.deadline_at,
        generation=rotation.generation,
        current_generation=rotation.old_generation,
    )


def is_cancelled(rotation: Rotation) -> bool:
    """Return whether an admin has cancelled the rotation, which leaves it no time: it is not retried."""
    return rotation.deadline_at <= rotation.started_at


class RotationIds(TypedDict):
    """The rotation and the generation of its new secret."""

    rotation_id: UUID
    generation: int


@dataclass(frozen=True, slots=True)
class Attempt:
    """A rotation that is locked in a transaction, with its device."""

    session: AsyncSession
    outbox: Outbox
    rotation: Rotation
    device: Device
    client_id: str
    proven_here: set[tuple[UUID, Proof]] = field(default_factory=set)
    """What devices have proven to this leader (`Rotator.proven`)."""

    @property
    def step(self) -> Step:
        """Its step; after the end, its outcome."""
        return Step(self.rotation.outcome or self.rotation.step)

    @property
    def ids(self) -> RotationIds:
        """The fields that each of its events has."""
        return {"rotation_id": self.rotation.id, "generation": self.rotation.generation}

    def advance(self, event: AttemptEvent) -> None:
        """Go to the next step, or raise IllegalTransitionError and change nothing."""
        step = states.advance(self.step, event)
        if step in states.ENDS:
            self.rotation.outcome = step
        else:
            self.rotation.step = step

    def proven(self, given: str, purpose: Proof, vault: crypto.Vault) -> bool:
        """Check a proof; count and report a wrong one, which changes nothing else."""
        if crypto.proves(given, self.secret(vault), purpose, self.rotation.id):
            return True
        self.rotation.refused_proofs += 1
        self.emit(events.ROTATION_PROOF_REFUSED, events.RotationProofFacts(**self.ids, purpose=purpose))
        return False

    def check_current_secret(
        self, given: str | None, purpose: Literal["request", "current"], vault: crypto.Vault
    ) -> None:
        """Check a device's proof of its present secret; a wrong one shows that ours is not the device's.

        Ours is then never restored: the attempt continues once the device has stored the new secret.
        """
        old = self.rotation.old_secret
        if given is None or old is None or crypto.proves(given, vault.decrypt(old), purpose, self.rotation.id):
            return
        self.rotation.old_secret = None
        self.emit(events.ROTATION_SPLIT_FOUND, events.RotationProofFacts(**self.ids, purpose=purpose))

    def secret(self, vault: crypto.Vault) -> SecretStr:
        """Return the new secret of an open attempt."""
        return vault.decrypt(self.rotation.new_secret or b"")

    def how_it_ended(self) -> messages.RotationDone | messages.RotationCancelled | None:
        """Return the closing message of an attempt, or None while it is open."""
        if self.step == Step.DONE:
            return messages.RotationDone(rotation_id=self.rotation.id, generation=self.rotation.generation)
        if self.step in _REASONS:
            return messages.RotationCancelled(rotation_id=self.rotation.id, reason=_REASONS[self.step])
        return None

    def switch(self) -> messages.RotationSwitch:
        """Return the message that the new secret is in force."""
        return messages.RotationSwitch(rotation_id=self.rotation.id, generation=self.rotation.generation)

    def complete(self, event: AttemptEvent, now: datetime, vault: crypto.Vault) -> None:
        """Make the new secret the device's secret: it has acknowledged it, or it was found in force."""
        held = Held.of(self.secret(vault), self.rotation.generation)
        self.advance(event)
        self.device.rotation_state = "OK"
        self.device.secret_generation, self.device.secret_fingerprint = held.generation, held.fingerprint
        self.device.secret_created_at = now
        self._close(now)
        done = messages.RotationDone(rotation_id=self.rotation.id, generation=self.rotation.generation)
        self.outbox.put(self.session, topics.ROTATION_DONE, done, client_id=self.client_id)
        acknowledged = event is AttemptEvent.ACK_PROVEN
        self.emit(events.ROTATION_COMPLETED, events.RotationDoneFacts(**self.ids, acknowledged=acknowledged))

    def give_up(self, event: AttemptEvent, now: datetime, *, retry_in: timedelta) -> None:
        """End the attempt with the old secret in force, to be retried unless it is cancelled.

        A device that has left is queued again, and offered another secret when it is back.
        """
        at_step = self.rotation.step
        cancelled_by_admin = is_cancelled(self.rotation)
        self.advance(event)
        self.device.rotation_retry_at = None
        if cancelled_by_admin:
            self.device.rotation_state = "OK"
        elif self.step is Step.WITHDRAWN:
            self.device.rotation_state = "QUEUED"
        else:
            self.device.rotation_state, self.device.rotation_retry_at = "TIMEOUT", now + retry_in
        self._close(now)
        cancelled = messages.RotationCancelled(rotation_id=self.rotation.id, reason=_REASONS[self.step])
        self.outbox.put(self.session, topics.ROTATION_CANCELLED, cancelled, client_id=self.client_id)
        ended = events.ROTATION_WITHDRAWN if self.step is Step.WITHDRAWN else events.ROTATION_TIMED_OUT
        self.emit(ended, events.RotationTimeoutFacts(**self.ids, at_step=at_step, cancelled=cancelled_by_admin))

    def emit(self, event: DeviceEvent[F], facts: F) -> None:
        """Emit an event of this attempt once the transaction has committed."""
        self.outbox.emit(self.session, event, self.client_id, facts)

    def _close(self, now: datetime) -> None:
        self.device.rotation_slot = None
        self.proven_here.difference_update((self.rotation.id, purpose) for purpose in get_args(Proof))
        self.device.verify_at = now + VERIFY_AFTER
        self.rotation.new_secret = None
        self.rotation.old_secret = None
        self.rotation.ended_at = now
        duration_s = (now - self.rotation.started_at).total_seconds()
        metrics.ROTATION_DURATION.labels(self.rotation.outcome).observe(duration_s)
