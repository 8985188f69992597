"""A small model of the server: honest, but it can be slow, give up, and start again."""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import datetime, timedelta
from uuid import UUID, uuid4

from pydantic import BaseModel

from device.rotation import Slot
from shared import crypto, messages


@dataclass
class Attempt:
    """A rotation as the server knows it."""

    rotation_id: UUID
    old: Slot
    new: Slot
    deadline: datetime
    step: str = "OFFERED"


@dataclass
class Server:
    """Database, broker and Keycloak in one: which secret is confirmed, and which one the broker takes."""

    confirmed: Slot
    in_force: Slot
    generation: int
    attempts: dict[UUID, Attempt] = field(default_factory=dict)
    down: list[BaseModel] = field(default_factory=list)
    said: list[BaseModel] = field(default_factory=list)
    up: list[BaseModel] = field(default_factory=list)

    @property
    def open(self) -> Attempt | None:
        return next((one for one in self.attempts.values() if one.step not in ("DONE", "TIMEOUT")), None)

    def say(self, message: BaseModel) -> None:
        self.down.append(message)
        self.said.append(message)

    def offer(self, now: datetime) -> None:
        self.generation += 1
        rotation_id = uuid4()
        new = Slot(crypto.new_secret(), self.generation, rotation_id)
        attempt = Attempt(rotation_id, self.confirmed, new, now + timedelta(seconds=300))
        self.attempts[rotation_id] = attempt
        self.say(
            messages.RotationOffer(
                rotation_id=rotation_id,
                deadline=attempt.deadline,
                generation=new.generation,
                current_generation=self.confirmed.generation,
            )
        )

    def take(self, message: BaseModel) -> None:
        assert isinstance(message, messages.RotationRequest | messages.RotationStored | messages.RotationAck)
        attempt = self.attempts[message.rotation_id]
        new, rotation_id = attempt.new, attempt.rotation_id
        if attempt.step == "DONE":
            self.say(messages.RotationDone(rotation_id=rotation_id, generation=new.generation))
        elif attempt.step == "TIMEOUT":
            self.say(messages.RotationCancelled(rotation_id=rotation_id, reason="timeout"))
        elif isinstance(message, messages.RotationRequest):
            attempt.step = "DELIVERED" if attempt.step == "OFFERED" else attempt.step
            secret = new.secret.get_secret_value()
            self.say(messages.RotationSecret(rotation_id=rotation_id, generation=new.generation, secret=secret))
        elif isinstance(message, messages.RotationStored):
            assert crypto.proves(message.proof, new.secret, "stored", rotation_id)
            attempt.step = "STORED" if attempt.step in ("OFFERED", "DELIVERED") else attempt.step
            if attempt.step == "SWITCHED":
                self.say(messages.RotationSwitch(rotation_id=rotation_id, generation=new.generation))
        elif attempt.step == "SWITCHED":
            assert crypto.proves(message.proof, new.secret, "ack", rotation_id)
            attempt.step = "DONE"
            self.confirmed = new
            self.say(messages.RotationDone(rotation_id=rotation_id, generation=new.generation))

    def advance(self) -> bool:
        """Do the leader's next deed; return whether the broker disconnects the device."""
        attempt = self.open
        if attempt is None:
            return False
        if attempt.step == "STORED":
            attempt.step = "SWITCHING"
        elif attempt.step == "SWITCHING" and self.in_force is not attempt.new:
            self.in_force = attempt.new
            return True
        elif attempt.step == "SWITCHING":
            attempt.step = "SWITCHED"
            rotation_id, generation = attempt.rotation_id, attempt.new.generation
            self.say(messages.RotationSwitch(rotation_id=rotation_id, generation=generation))
        elif attempt.step == "RESTORING" and self.in_force is not attempt.old:
            self.in_force = attempt.old
            return True
        elif attempt.step == "RESTORING":
            self._end(attempt)
        return False

    def expire(self) -> None:
        attempt = self.open
        if attempt is None:
            return
        if attempt.step in ("SWITCHING", "SWITCHED", "RESTORING"):
            attempt.step = "RESTORING"
        else:
            self._end(attempt)

    def _end(self, attempt: Attempt) -> None:
        attempt.step = "TIMEOUT"
        self.say(messages.RotationCancelled(rotation_id=attempt.rotation_id, reason="timeout"))

    def config(self) -> messages.Config:
        return messages.Config(version=1, unchanged=True, secret_generation=self.confirmed.generation)
