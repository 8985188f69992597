"""Histories of secrets and their rotations."""

from __future__ import annotations

import random
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Final
from uuid import UUID

from pydantic import BaseModel, SecretStr

from device import rotation
from device.rotation import Slot, SlotChange, Slots, Wanted
from shared.protocol import messages, topics
from tools.traces.board import LONGEST, SECRET, Step, package

PAUSE: Final = timedelta(seconds=61)
_IS_WANTED: Final = 0.6
"""How often a message is of the wanted rotation, or hardly a secret would come."""
_IS_REFUSED: Final = 0.3
_IS_START: Final = 0.1
_BEGAN: Final = datetime(2026, 11, 25, 15, tzinfo=UTC)
_DEADLINES: Final = (_BEGAN, _BEGAN + timedelta(minutes=5))


@dataclass
class SecretHistory:
    """A device's slots, and what it knows of a rotation."""

    draw: random.Random
    slots: Slots = field(default_factory=lambda: Slots(Slot(SecretStr(SECRET.format(1, 0)), 1)))
    wanted: Wanted | None = None
    login: int = 1
    now: datetime | None = None

    def start(self) -> Step:
        """Start the board, and log in."""
        self.wanted = self.now = None
        return {"event": "start", **self._log_in(), "then": self.seen()}

    def receive(self) -> Step:
        """Receive a message, and log in again if it requires that."""
        topic, message, facts = self._message()
        change = self._change(message, facts)
        anew = isinstance(message, messages.RotationSwitch) and rotation.must_switch(
            self.slots, self.login, message.rotation_id
        )
        if change is not SlotChange.KEEP:
            promotes = change is SlotChange.PROMOTE
            self.slots = rotation.promoted(self.slots) if promotes else rotation.discarded(self.slots)
            anew = rotation.is_orphan(self.slots, self.login)
        refuses = self._log_in() if anew else {}
        plain = message.model_dump(mode="json", exclude_none=True, exclude={"jwe"})
        return {"event": topic, "message": plain, **facts, **refuses, "then": {"logs_in": anew, **self.seen()}}

    def _change(self, message: BaseModel, facts: Step) -> SlotChange:
        """Take a message, and return what becomes of the second slot."""
        match message:
            case messages.RotationOffer():
                answer = rotation.on_offer(self.slots, self.wanted, message, now=self.now)
                self.wanted = answer.wanted
                return answer.change
            case messages.RotationSecret():
                if rotation.takes_secret(self.slots, self.wanted, message, now=self.now):
                    slot = Slot(SecretStr(facts["sealed"]), message.generation, message.rotation_id)
                    self.slots, self.wanted = rotation.filled(self.slots, slot), None
            case messages.RotationDone():
                return rotation.on_done(self.slots, message.rotation_id)
            case messages.RotationCancelled():
                if self.wanted is not None and self.wanted.rotation_id == message.rotation_id:
                    self.wanted = None
                return rotation.on_cancelled(self.slots, message.rotation_id)
            case messages.Config():
                if message.time is not None and (self.now is None or message.time > self.now):
                    self.now = message.time
                return rotation.on_confirmed(self.slots, message.secret_generation)
        return SlotChange.KEEP

    def _message(self) -> tuple[str, BaseModel, Step]:
        """Draw a message: its topic below down/, its content, and what is to be sealed as its JWE."""
        draw, number, generation = self.draw, self.draw.randint(1, 2), self.draw.randint(1, 4)
        if self.wanted is not None and draw.random() < _IS_WANTED:
            number, generation = self.wanted.rotation_id.int, self.wanted.generation
        ids: Step = {"rotation_id": UUID(int=number)}
        new = {**ids, "generation": generation}
        match draw.choice(["offer", "offer", "secret", "secret", "switch", "done", "cancelled", "config"]):
            case "offer":
                facts: Step = {"deadline": draw.choice(_DEADLINES), "current_generation": draw.randint(1, 3)}
                return "rotation/offer", messages.RotationOffer(**new, **facts), {}
            case "secret":
                sealed = {"sealed": SECRET.format(generation, number)}
                return "rotation/secret", messages.RotationSecret(**new, jwe="sealed"), sealed
            case "switch":
                return "rotation/switch", messages.RotationSwitch(**new), {}
            case "done":
                return "rotation/done", messages.RotationDone(**new), {}
            case "cancelled":
                name = topics.ROTATION_CANCELLED.template.partition("/down/")[2]
                return name, messages.RotationCancelled(**ids, reason="over"), {}
        time = draw.choice([None, _BEGAN, _BEGAN + timedelta(minutes=1)])
        return "config", messages.Config(version=1, unchanged=True, secret_generation=generation, time=time), {}

    def _log_in(self) -> Step:
        """Log in with the secret that is tried first, unless the broker refuses it; return whether it does."""
        order = rotation.login_order(self.slots)
        refuses = len(order) > 1 and self.draw.random() < _IS_REFUSED
        self.login = order[int(refuses)].generation
        return {"refuses": [order[0].generation]} if refuses else {}

    def seen(self) -> Step:
        """Let a minute pass; return which generations it holds, the confirmed one first, and what it repeats."""
        self.now = None if self.now is None else self.now + PAUSE
        held = [self.slots.first] if self.slots.second is None else [self.slots.first, self.slots.second]
        due = rotation.due(self.slots, self.wanted, self.login, now=self.now)
        return {
            "generations": [slot.generation for slot in held],
            "login": self.login,
            "repeats": None if due is None else f"rotation/{due.value}",
        }


def history(seed: int) -> list[Step]:
    """Return a history of secrets."""
    draw = random.Random(seed)  # noqa: S311 - examples
    device = SecretHistory(draw)
    written = package().model_dump(mode="json", exclude_none=True)
    steps = [{**device.start(), "package": written}]
    steps += [
        device.start() if draw.random() < _IS_START else device.receive() for _ in range(draw.randint(3, LONGEST))
    ]
    return steps
