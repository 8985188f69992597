"""The rotator on paper: its real rules on rows in memory, beside a Keycloak and a broker that are a slot each.

It is honest, but it can be slow, give up, die between any two deeds and begin again.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Final, cast
from uuid import UUID, uuid4

from cryptography.fernet import Fernet
from pydantic import BaseModel, SecretStr
from sqlalchemy.ext.asyncio import AsyncSession

from device.rotation import Slot
from services.rotator.attempt import Attempt, is_cancelled, offer_of
from services.rotator.domain import Event, Step
from services.rotator.leader import Leadership
from services.rotator.service import Rotator
from shared import crypto, messages, topics
from shared.errors import IllegalTransitionError
from shared.outbox import Outbox
from shared.postgres import Database
from shared.schema import Device, OutboxMessage, Rotation
from tests.unit.device.kit import CLIENT_ID, finish

VAULT: Final = crypto.Vault([SecretStr(Fernet.generate_key().decode())])
RETRY_IN: Final = timedelta(minutes=10)
BOTH: Final = 2
"""Keycloak and the broker: so many deeds put a secret in force."""
DOWN: Final = {
    topic.of(client_id=CLIENT_ID): topic
    for topic in (topics.ROTATION_SWITCH, topics.ROTATION_DONE, topics.ROTATION_CANCELLED)
}


@dataclass(frozen=True, slots=True)
class Paper(Rotator):
    """A rotator that finds one device's rows in memory, and leaves what it has to say in `said`."""

    device: Device = field(default_factory=Device)
    rotations: dict[UUID, Rotation] = field(default_factory=dict)
    said: list[BaseModel] = field(default_factory=list)

    @asynccontextmanager
    async def attempt(self, rotation_id: UUID, client_id: str | None = None) -> AsyncIterator[Attempt]:
        """Give a rotation as the database would, without a transaction: nothing may have changed at an error."""
        assert client_id in (None, CLIENT_ID)
        rotation = self.rotations[rotation_id]
        session = AsyncSession()
        before = (rotation.step, rotation.outcome, self.device.secret_generation)
        try:
            yield Attempt(session, self.outbox, rotation, self.device, CLIENT_ID)
        except IllegalTransitionError:
            assert before == (rotation.step, rotation.outcome, self.device.secret_generation)
            raise
        rows = [row for row in session.sync_session.new if isinstance(row, OutboxMessage)]
        self.said.extend(DOWN[row.topic].decode(row.payload) for row in rows if row.topic in DOWN)


@dataclass
class Server:
    """The rotator, and which secret Keycloak and the broker (`in_force`) want.

    `says` is the generation that the device last said it had logged in with.
    """

    in_force: Slot
    keycloak: Slot = field(init=False)
    slots: dict[int, Slot] = field(init=False)
    says: int = 0
    expired: bool = False
    deeds: int = 0
    down: list[BaseModel] = field(default_factory=list)
    said: list[BaseModel] = field(default_factory=list)
    up: list[BaseModel] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.keycloak = self.in_force
        self.slots = {self.in_force.generation: self.in_force}
        generation = self.in_force.generation
        device = Device(secret_generation=generation, last_generation=generation, rotation_state="OK")
        nowhere = cast("Leadership", None), cast("Database", None)
        self.rotator = Paper(*nowhere, Outbox("rotator"), VAULT, device=device)

    @property
    def confirmed(self) -> Slot:
        """Return the secret that the database calls the device's."""
        return self.slots[self.rotator.device.secret_generation]

    @property
    def open(self) -> Rotation | None:
        """Return the rotation under way."""
        return next((one for one in self.rotator.rotations.values() if one.outcome is None), None)

    def say(self, message: BaseModel) -> None:
        """Send a message to the device."""
        self.down.append(message)
        self.said.append(message)

    def offer(self, now: datetime) -> None:
        """Begin a rotation."""
        device, old = self.rotator.device, self.confirmed
        device.last_generation += 1
        device.rotation_state, device.rotation_slot, device.rotation_retry_at = "PENDING", 0, None
        new = Slot(crypto.new_secret(), device.last_generation, uuid4())
        self.slots[new.generation] = new
        rotation = Rotation(
            id=new.rotation_id,
            generation=new.generation,
            old_generation=old.generation,
            step=Step.OFFERED,
            new_secret=VAULT.encrypt(new.secret),
            old_secret=VAULT.encrypt(old.secret),
            refused_proofs=0,
            started_at=now,
            deadline_at=now + timedelta(seconds=300),
        )
        self.rotator.rotations[rotation.id] = rotation
        self.expired = False
        self.say(offer_of(rotation))

    def take(self, message: BaseModel) -> None:
        """Take a message of the device; what does not belong to the step is refused, and changes nothing."""
        try:
            if isinstance(message, messages.RotationRequest):
                answer: BaseModel | None = finish(self.rotator.deliver(CLIENT_ID, message))
            elif isinstance(message, messages.RotationStored):
                answer = finish(self.rotator.take_stored(CLIENT_ID, message))
            else:
                assert isinstance(message, messages.RotationAck)
                answer = finish(self.rotator.take_ack(CLIENT_ID, message))
        except IllegalTransitionError:
            return
        self._pass_on()
        if answer is not None:
            self.say(answer)

    def advance(self) -> bool:
        """Do the leader's next deed; return whether the broker disconnects the device."""
        rotation = self.open
        if rotation is None:
            return False
        step = Step(rotation.step)
        restoring = step == Step.RESTORING or (self.expired and step in (Step.SWITCHING, Step.SWITCHED))
        dropped = False
        if restoring:
            dropped = self._restore(rotation)
        elif self.expired:
            self._end(rotation, Event.EXPIRED)
        elif step in (Step.STORED, Step.SWITCHING):
            dropped = self._switch(rotation)
        self._pass_on()
        return dropped

    def expire(self) -> None:
        """Let the deadline of the rotation under way pass."""
        self.expired = self.open is not None

    def cancel(self) -> None:
        """Call off the rotation under way, as an admin does."""
        rotation = self.open
        if rotation is not None:
            rotation.deadline_at = rotation.started_at
            self.expired = True

    def die(self) -> None:
        """Forget all that is not in the database: a new leader begins the deed of the present step again."""
        self.deeds = 0

    def config(self) -> messages.Config:
        """Return what a device hears of its configuration."""
        return messages.Config(version=1, unchanged=True, secret_generation=self.confirmed.generation)

    def check_ended(self) -> None:
        """Check that nothing of ended rotations is left, and that Keycloak and the broker agree."""
        device, rotations = self.rotator.device, self.rotator.rotations.values()
        assert self.open is None
        assert all(one.new_secret is None and one.old_secret is None for one in rotations)
        assert device.rotation_slot is None
        last = max(rotations, key=lambda one: one.generation, default=None)
        failed = last is not None and last.outcome == Step.TIMEOUT and not is_cancelled(last)
        assert device.rotation_state == ("TIMEOUT" if failed else "OK")
        assert self.keycloak == self.in_force == self.confirmed

    def _switch(self, rotation: Rotation) -> bool:
        if rotation.step == Step.STORED:
            self._move(rotation, Event.SWITCH_BEGUN)
            return False
        if self.deeds < BOTH:
            return self._put_in_force(self.slots[rotation.generation])
        self._move(rotation, Event.SWITCH_COMPLETED)
        self.say(messages.RotationSwitch(rotation_id=rotation.id, generation=rotation.generation))
        return False

    def _restore(self, rotation: Rotation) -> bool:
        if rotation.step != Step.RESTORING and self.says == rotation.generation:
            if self.deeds < BOTH:
                return self._put_in_force(self.slots[rotation.generation])
            self._end(rotation, Event.FOUND_IN_FORCE)
            return False
        if rotation.step != Step.RESTORING:
            self._move(rotation, Event.EXPIRED)
            return False
        if self.deeds < BOTH:
            return self._put_in_force(self.slots[rotation.old_generation])
        self._end(rotation, Event.RESTORED)
        return False

    def _put_in_force(self, slot: Slot) -> bool:
        """Set one secret after the other; a new password always drops the device."""
        self.deeds += 1
        if self.deeds == 1:
            self.keycloak = slot
            return False
        self.in_force = slot
        return True

    def _move(self, rotation: Rotation, event: Event) -> None:
        self._change(rotation, lambda attempt: attempt.advance(event))

    def _end(self, rotation: Rotation, event: Event) -> None:
        now = datetime.now(UTC)
        if event == Event.FOUND_IN_FORCE:
            self._change(rotation, lambda attempt: attempt.complete(event, now, self.rotator.vault))
        else:
            self._change(rotation, lambda attempt: attempt.give_up(event, now, retry_in=RETRY_IN))

    def _change(self, rotation: Rotation, deed: Callable[[Attempt], object]) -> None:
        """Do a deed in a transaction of its own; the next one begins anew."""
        self.deeds = 0

        async def change() -> None:
            async with self.rotator.attempt(rotation.id) as attempt:
                deed(attempt)

        finish(change())

    def _pass_on(self) -> None:
        """Let the outbox drain."""
        for message in self.rotator.said:
            self.say(message)
        self.rotator.said.clear()
