"""The promise as a game of pure rules: a device, the three stores, and everything that may go wrong between them.

The rules are the product's own: device.rotation, services.rotator.states and services.registry.credentials.rules.
What is simulated are the stores, messages and calls: they are lost, doubled and late, processes die, and a store
is put back to an earlier copy. A history is a list of numbers, each of which picks what happens next.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from typing import Any, Final
from uuid import UUID

from pydantic import SecretStr

from device import rotation as rules
from device.rotation import Due, Slot, SlotChange, Slots, Wanted
from services.registry.credentials import rules as credential_rules
from services.registry.credentials.rules import Places, Remedy
from services.rotator import states
from services.rotator.states import AttemptEnding, AttemptEvent, Step
from shared.crypto import Held
from shared.errors import IllegalTransitionError
from shared.protocol import messages

NOW: Final = datetime(2026, 11, 25, tzinfo=UTC)
LATER: Final = NOW + timedelta(minutes=5)
ROUNDS: Final = 40
"""So many rounds of a minute may it take at the end until all is well."""


class LostError(AssertionError):
    """A device has not come back."""


@dataclass(frozen=True, slots=True)
class Secret:
    """A secret with its generation, as Keycloak and the broker hold it."""

    name: str
    generation: int

    @property
    def held(self) -> Held:
        return Held(self.generation, self.name)


@dataclass(frozen=True, slots=True)
class Attempt:
    """The row of an open rotation."""

    number: int
    step: Step
    new: Secret
    old_generation: int
    old: Secret | None


@dataclass(frozen=True, slots=True)
class Row:
    """What the database says of the device."""

    held: Held
    last_generation: int
    attempt: Attempt | None = None
    said: int | None = 1


@dataclass(frozen=True, slots=True)
class Account:
    """What the broker has: the account, and what the device said last, which is retained."""

    secret: Secret
    said: int | None = 1


@dataclass(slots=True)
class World:
    """One device and all that it depends on.

    So many kinds of failures may be in one history: a store that is put back to an earlier copy, calls that land
    late, a secret that is changed by hand. Messages and processes may fail in any.
    """

    keyed: bool
    failures_most: int
    row: Row = Row(Held(1, "s1"), 1)
    keycloak: Secret = Secret("s1", 1)
    broker: Account = Account(Secret("s1", 1))
    slots: Slots = field(default_factory=lambda: Slots(Slot(SecretStr("s1"), 1)))
    wanted: Wanted | None = None
    login: Slot | None = None
    refused: bool = False
    expired: bool = False
    done: int = 0
    """Calls that the leader has made of the present act; a new leader begins again."""
    heard: set[int] = field(default_factory=set)
    names: int = 1
    rotations: int = 0
    up: list[tuple[str, int]] = field(default_factory=list)
    down: list[object] = field(default_factory=list)
    late: list[Callable[[], None]] = field(default_factory=list)
    copies: dict[str, Any] = field(default_factory=dict)
    failed: set[str] = field(default_factory=set)
    log: list[str] = field(default_factory=list)
    recovered: int = 0
    late_calls: int = 0

    def play(self, choices: Sequence[int]) -> None:
        """Let happen what the numbers pick, then let all be well, and look whether the device is."""
        acts = self._acts()
        for number in choices:
            act = acts[number % len(acts)]
            self.log.append(act.__name__)
            act()
        self.settle()

    def settle(self) -> None:
        """Let nothing go wrong any more; raise LostError unless device and stores agree in time."""
        while self.late:
            self.late.pop(0)()
        for _ in range(ROUNDS):
            for _ in range(8):
                self.connect()
                self.say()
                while self.up or self.down:
                    self.deliver()
                self.lead()
            if self.well():
                return
            self.expire()
            self.lead()
            self.heal()
        raise LostError(f"lost: {self}\n{self.log}")

    def well(self) -> bool:
        """Whether the device is connected with the secret that all three hold, and nothing is in progress."""
        secret = self.broker.secret
        return (
            self.login is not None
            and self.login.secret.get_secret_value() == secret.name
            and self.keycloak == secret
            and self.row.held == secret.held
            and self.row.attempt is None
        )

    def _acts(self) -> list[Callable[[], object]]:
        return [
            *[self.go_on] * 16,
            self.offer,
            self.deliver,
            self.lose,
            self.double,
            self.lead,
            self.lead_late,
            self.die,
            self.expire,
            self.withdraw,
            self.cut_power,
            self.copy_all,
            self.put_back_row,
            self.put_back_keycloak,
            self.put_back_broker,
            self.arrive_late,
            self.heal,
            self.change_by_hand,
        ]

    def go_on(self) -> None:
        """Let the next thing happen as it should."""
        if self.login is None:
            self.connect()
        elif self.up or self.down:
            self.deliver()
        elif self.row.attempt is None:
            self.offer()
        elif self.row.attempt.step in {Step.STORED, Step.SWITCHING, Step.RESTORING} or self.expired:
            self.lead()
        else:
            self.say()

    # --- the rotator

    def offer(self) -> None:
        """Claim the device, as RotationWorker does."""
        row = self.row
        if row.attempt is not None:
            return
        basis = states.basis(
            row=row.held, keycloak=self.keycloak.held, broker=self.broker.secret.held, reported=row.said
        )
        generation = max(row.last_generation, self.keycloak.generation, basis.generation) + 1
        self.rotations += 1
        new = self.fresh(generation)
        old = self.keycloak if basis.restorable else None
        attempt = Attempt(self.rotations, Step.OFFERED, new, basis.generation, old)
        self.row = replace(row, attempt=attempt, last_generation=generation)
        self.expired, self.done = False, 0
        self.announce()

    def announce(self) -> None:
        """Repeat the offer to a device that may have lost it."""
        attempt = self.row.attempt
        if attempt is not None and attempt.step in {Step.OFFERED, Step.DELIVERED}:
            self.down.append(
                messages.RotationOffer(
                    rotation_id=UUID(int=attempt.number),
                    deadline=LATER,
                    generation=attempt.new.generation,
                    current_generation=attempt.old_generation,
                )
            )

    def lead(self) -> None:
        """Advance the open rotation by one act of the leader."""
        attempt = self.row.attempt
        if attempt is None:
            return
        if self.expired or attempt.step is Step.RESTORING:
            self._end(attempt)
        elif attempt.step not in {Step.STORED, Step.SWITCHING} or not states.may_switch(
            attempt.step,
            stored=attempt.number in self.heard,
            new=attempt.new.held,
            keycloak=self.keycloak.held,
            broker=self.broker.secret.held,
        ):
            return
        elif attempt.step is Step.STORED:
            self._move(attempt, AttemptEvent.SWITCH_BEGUN)
        elif self._put_in_force(attempt.new):
            self._move(attempt, AttemptEvent.SWITCH_COMPLETED)
            self.down.append(
                messages.RotationSwitch(rotation_id=UUID(int=attempt.number), generation=attempt.new.generation)
            )

    def _end(self, attempt: Attempt, why: AttemptEvent = AttemptEvent.EXPIRED) -> None:
        said = self.broker.said if self.broker.said is not None else self.row.said
        ending = states.ending(
            attempt.step,
            new=attempt.new.held,
            keycloak=self.keycloak.held,
            broker=self.broker.secret.held,
            reported=said,
            restorable=attempt.old is not None,
        )
        if ending is AttemptEnding.GIVE_UP:
            self._close(attempt, why)
        elif ending is AttemptEnding.ABANDON:
            self._close(attempt, AttemptEvent.OVERTAKEN)
        elif ending is AttemptEnding.COMPLETE and self._put_in_force(attempt.new):
            self._close(attempt, AttemptEvent.FOUND_IN_FORCE)
        elif ending is AttemptEnding.RESTORE and attempt.step is not Step.RESTORING:
            self._move(attempt, AttemptEvent.EXPIRED)
        elif ending is AttemptEnding.RESTORE and attempt.old is not None and self._put_in_force(attempt.old):
            self._close(attempt, AttemptEvent.RESTORED)

    def _put_in_force(self, secret: Secret) -> bool:
        """Make one call; return whether both have been made."""
        if self.done == 0:
            self.keycloak = secret
        elif self.done == 1:
            self._set_account(secret)
        self.done += 1
        return self.done > 2

    def lead_late(self) -> None:
        """Let the leader give its next call up, and the call arrive some day: it froze, or Keycloak was slow."""
        attempt = self.row.attempt
        if attempt is None:
            return
        secret = attempt.new if attempt.step is Step.SWITCHING else attempt.old
        if attempt.step not in {Step.SWITCHING, Step.RESTORING} or secret is None:
            return
        if not (self._may_fail("call") and (self.keyed or not self.late_calls)):
            return
        self.late_calls += 1
        wanted: Secret = secret
        if self.done == 0:
            self.late.append(lambda: setattr(self, "keycloak", wanted))
        else:
            self.late.append(lambda: self._set_account(wanted))

    def arrive_late(self) -> None:
        """Let the oldest late call arrive."""
        if self.late:
            self.late.pop(0)()

    def die(self) -> None:
        """Let another leader take over."""
        self.done = 0
        self.heard.clear()

    def expire(self) -> None:
        """Let the time of the open rotation be up."""
        self.expired = self.row.attempt is not None

    def withdraw(self) -> None:
        """Let the leader see that the device has left, as it does for an attempt before the switch."""
        attempt = self.row.attempt
        if attempt is not None and attempt.step in states.BEFORE_SWITCH:
            self._end(attempt, AttemptEvent.LEFT)

    def _move(self, attempt: Attempt, event: AttemptEvent) -> None:
        self.done = 0
        self.row = replace(self.row, attempt=replace(attempt, step=states.advance(attempt.step, event)))

    def _close(self, attempt: Attempt, event: AttemptEvent) -> None:
        self.done = 0
        outcome = states.advance(attempt.step, event)
        held = attempt.new.held if outcome is Step.DONE else self.row.held
        self.row = replace(self.row, attempt=None, held=held)
        self._answer_ended(attempt.number, done=outcome is Step.DONE)
        self.ended(attempt.number, done=outcome is Step.DONE)

    def ended(self, number: int, *, done: bool) -> None:
        """Note how an attempt ended, in the database as it is now."""
        self.copies.setdefault("ended", {})[number] = done

    def _answer_ended(self, number: int, *, done: bool) -> None:
        rotation_id = UUID(int=number)
        if done:
            self.down.append(messages.RotationDone(rotation_id=rotation_id, generation=0))
        else:
            self.down.append(messages.RotationCancelled(rotation_id=rotation_id, reason="the time was up"))

    def take(self, kind: str, number: int) -> None:
        """Take a device's message, as Rotator does."""
        attempt = self.row.attempt
        if attempt is None or attempt.number != number:
            ended = self.copies.get("ended", {})
            if number in ended:
                self._answer_ended(number, done=ended[number])
            return
        event = {
            "request": AttemptEvent.REQUESTED,
            "stored": AttemptEvent.STORED_PROVEN,
            "ack": AttemptEvent.ACK_PROVEN,
        }[kind]
        old = attempt.old
        if old is not None and kind != "ack" and self.slots.first.secret.get_secret_value() != old.name:
            attempt = replace(attempt, old=None)  # the proof by the present secret is another one
            self.row = replace(self.row, attempt=attempt)
        try:
            step = states.advance(attempt.step, event)
        except IllegalTransitionError:
            return
        if step is Step.DONE:
            self._close(attempt, AttemptEvent.ACK_PROVEN)
            return
        if step is not attempt.step:
            self.done = 0
        if kind == "stored":
            self.heard.add(number)
        self.row = replace(self.row, attempt=replace(attempt, step=step))
        if kind == "request":
            secret = attempt.new.name.ljust(32, "_")
            self.down.append(
                messages.RotationSecret(
                    rotation_id=UUID(int=number), generation=attempt.new.generation, secret=secret
                )
            )
        elif step is Step.SWITCHED:
            self.down.append(
                messages.RotationSwitch(rotation_id=UUID(int=number), generation=attempt.new.generation)
            )

    # --- the registry

    def heal(self) -> None:
        """Compare the places, and apply the remedy, as Credentials does."""
        if self.row.attempt is not None:
            return
        places = Places(
            row=self.row.held,
            keycloak=self.keycloak.held,
            broker=self.broker.secret.held,
            connected=self.login is not None,
            refused=self.refused and self.login is None,
            reported=self.row.said,
        )
        remedy = credential_rules.remedy(places)
        if remedy is Remedy.RECORD:
            held = self.keycloak.held
            last = max(self.row.last_generation, held.generation)
            self.row = replace(self.row, held=held, last_generation=last)
        elif remedy is Remedy.PUT:
            self._set_account(self.keycloak)
        elif remedy is Remedy.ROTATE and self.login is not None:
            self.offer()

    def recover(self) -> None:
        """Answer a device that has proven who it is by its key, as Recoveries does."""
        attempt = self.row.attempt
        switching = attempt is not None and attempt.step not in {Step.OFFERED, Step.DELIVERED}
        if switching and self.keycloak != self.broker.secret:
            return
        if self.keycloak != self.broker.secret:
            above = max(self.row.last_generation, self.keycloak.generation, self.broker.secret.generation)
            fresh = self.fresh(above + 1)
            self.keycloak = fresh
            self._set_account(fresh)
        held = self.keycloak.held
        if not switching:
            last = max(self.row.last_generation, held.generation)
            self.row = replace(self.row, held=held, last_generation=last)
        self.slots = rules.recovered(self.slots, Slot(SecretStr(self.keycloak.name), held.generation))
        self.recovered += 1

    # --- the device

    def connect(self) -> None:
        """Log in with the first slot that the broker takes; a device with a key recovers if it takes none."""
        if self.login is not None:
            return
        for _ in range(2):
            for slot in rules.login_order(self.slots):
                if slot.secret.get_secret_value() == self.broker.secret.name:
                    self.login, self.refused = slot, False
                    self.broker = replace(self.broker, said=slot.generation)
                    self.row = replace(self.row, said=slot.generation)
                    self.announce()
                    self.down.append(self.row.held.generation)  # in the answer to config/get
                    return
            self.refused = True
            if not self.keyed:
                return
            self.recover()

    def say(self) -> None:
        """Publish what is due."""
        login = None if self.login is None else self.login.generation
        due = rules.due(self.slots, self.wanted, login, now=NOW)
        if due is Due.REQUEST and self.wanted is not None:
            self.up.append(("request", self.wanted.rotation_id.int))
        elif due is not None and self.slots.second is not None and self.slots.second.rotation_id is not None:
            self.up.append((due.value, self.slots.second.rotation_id.int))

    def cut_power(self) -> None:
        """Let the device lose its connection and what is in memory only."""
        self.login, self.wanted = None, None

    def hear(self, message: object) -> None:
        """Take a message, as Credentials of the reference device does."""
        change = self._change(message)
        if change is SlotChange.PROMOTE:
            self.slots = rules.promoted(self.slots)
        elif change is SlotChange.DISCARD:
            self.slots = rules.discarded(self.slots)
        login = None if self.login is None else self.login.generation
        match message:
            case messages.RotationSwitch() if rules.must_switch(self.slots, login, message.rotation_id):
                self.login = None
            case _ if rules.is_orphan(self.slots, login):
                self.login = None

    def _change(self, message: object) -> SlotChange:
        """Take a message, and return what becomes of the slots."""
        match message:
            case messages.RotationOffer():
                answer = rules.on_offer(self.slots, self.wanted, message, now=NOW)
                self.wanted = answer.wanted
                return answer.change
            case messages.RotationSecret() if rules.takes_secret(self.slots, self.wanted, message, now=NOW):
                slot = Slot(SecretStr((message.secret or "").rstrip("_")), message.generation, message.rotation_id)
                self.slots, self.wanted = rules.filled(self.slots, slot), None
            case messages.RotationDone():
                return rules.on_done(self.slots, message.rotation_id)
            case messages.RotationCancelled():
                if self.wanted is not None and self.wanted.rotation_id == message.rotation_id:
                    self.wanted = None
                return rules.on_cancelled(self.slots, message.rotation_id)
            case int():
                return rules.on_confirmed(self.slots, message)
        return SlotChange.KEEP

    # --- between them

    def deliver(self) -> None:
        """Let the oldest message arrive, those of the device first."""
        if self.up:
            self.take(*self.up.pop(0))
        elif self.down and self.login is not None:
            self.hear(self.down.pop(0))
        elif self.down:
            self.down.pop(0)  # a session may be lost too

    def lose(self) -> None:
        """Lose the oldest message."""
        for queue in (self.up, self.down):
            if queue:
                queue.pop(0)
                return

    def double(self) -> None:
        """Let the oldest message come again, later."""
        if self.up:
            self.up.append(self.up[0])
        elif self.down:
            self.down.append(self.down[0])

    def change_by_hand(self) -> None:
        """Let a person set another secret in Keycloak's console, once."""
        if self._may_fail("hand"):
            self.keycloak = replace(self.fresh(0), generation=self.keycloak.generation)

    def copy_all(self) -> None:
        """Make a copy of each store."""
        self.copies |= {"row": self.row, "keycloak": self.keycloak, "broker": self.broker}

    def put_back_row(self) -> None:
        """Put the database back to its copy."""
        if self._may_put_back("row"):
            self.row = self.copies["row"]
            self.die()  # the leader has lost its connection

    def put_back_keycloak(self) -> None:
        """Put Keycloak back to its copy."""
        if self._may_put_back("keycloak"):
            self.keycloak = self.copies["keycloak"]

    def put_back_broker(self) -> None:
        """Put the broker back to its copy, which ends all connections."""
        if self._may_put_back("broker"):
            self.broker = self.copies["broker"]
            self.login = None

    def _may_put_back(self, store: str) -> bool:
        return store in self.copies and self._may_fail(store)

    def _may_fail(self, what: str) -> bool:
        """Let this fail too, if so many kinds of failures may be in one history."""
        if len(self.failed | {what}) > self.failures_most:
            return False
        self.failed.add(what)
        return True

    def fresh(self, generation: int) -> Secret:
        """Return a secret that nobody has yet."""
        self.names += 1
        return Secret(f"s{self.names}", generation)

    def _set_account(self, secret: Secret) -> None:
        """Change the broker's password, which drops the device."""
        self.broker = Account(secret, said=None)
        self.login = None
