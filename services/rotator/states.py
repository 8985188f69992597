"""The rotation of one secret as a table of steps and events, without I/O.

Before SWITCHING nothing outside the database has changed, so an attempt may simply end; from SWITCHING on, the
old secret must be put back before it may end without success. A database that was put back to an earlier copy
says less than what has happened: before an attempt ends, Keycloak, the broker and the device's own status are
read, and what they hold goes before what the row says.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from typing import Final

from shared.crypto import Held
from shared.errors import IllegalTransitionError


class Step(StrEnum):
    """How far an attempt has come; the last two are its ends."""

    OFFERED = "OFFERED"
    DELIVERED = "DELIVERED"
    STORED = "STORED"
    SWITCHING = "SWITCHING"
    SWITCHED = "SWITCHED"
    RESTORING = "RESTORING"
    DONE = "DONE"
    TIMEOUT = "TIMEOUT"


class AttemptEvent(StrEnum):
    """What can happen to an attempt: messages of the device, acts of the leader, time, and what is found."""

    REQUESTED = "requested"
    STORED_PROVEN = "stored_proven"
    ACK_PROVEN = "ack_proven"
    SWITCH_BEGUN = "switch_begun"
    SWITCH_COMPLETED = "switch_completed"
    RESTORED = "restored"
    EXPIRED = "expired"
    FOUND_IN_FORCE = "found_in_force"
    OVERTAKEN = "overtaken"


ENDS: Final = frozenset({Step.DONE, Step.TIMEOUT})
_OPEN: Final = frozenset(Step) - ENDS
TRANSITIONS: Final[dict[tuple[Step, AttemptEvent], Step]] = {
    (Step.OFFERED, AttemptEvent.REQUESTED): Step.DELIVERED,
    (Step.OFFERED, AttemptEvent.EXPIRED): Step.TIMEOUT,
    (Step.DELIVERED, AttemptEvent.REQUESTED): Step.DELIVERED,
    (Step.DELIVERED, AttemptEvent.STORED_PROVEN): Step.STORED,
    (Step.DELIVERED, AttemptEvent.EXPIRED): Step.TIMEOUT,
    (Step.STORED, AttemptEvent.REQUESTED): Step.STORED,
    (Step.STORED, AttemptEvent.STORED_PROVEN): Step.STORED,
    (Step.STORED, AttemptEvent.SWITCH_BEGUN): Step.SWITCHING,
    (Step.STORED, AttemptEvent.EXPIRED): Step.TIMEOUT,
    (Step.SWITCHING, AttemptEvent.REQUESTED): Step.SWITCHING,
    (Step.SWITCHING, AttemptEvent.STORED_PROVEN): Step.SWITCHING,
    (Step.SWITCHING, AttemptEvent.SWITCH_BEGUN): Step.SWITCHING,
    (Step.SWITCHING, AttemptEvent.SWITCH_COMPLETED): Step.SWITCHED,
    (Step.SWITCHING, AttemptEvent.EXPIRED): Step.RESTORING,
    (Step.SWITCHED, AttemptEvent.REQUESTED): Step.SWITCHED,
    (Step.SWITCHED, AttemptEvent.STORED_PROVEN): Step.SWITCHED,
    (Step.SWITCHED, AttemptEvent.ACK_PROVEN): Step.DONE,
    (Step.SWITCHED, AttemptEvent.EXPIRED): Step.RESTORING,
    (Step.RESTORING, AttemptEvent.RESTORED): Step.TIMEOUT,
    **{(step, AttemptEvent.FOUND_IN_FORCE): Step.DONE for step in sorted(_OPEN)},
    **{(step, AttemptEvent.OVERTAKEN): Step.TIMEOUT for step in sorted(_OPEN)},
}


def advance(step: Step, event: AttemptEvent) -> Step:
    """Return the next step; raise IllegalTransitionError if there is none."""
    try:
        return TRANSITIONS[step, event]
    except KeyError:
        raise IllegalTransitionError(f"{event} does not belong to {step}", step=step, event=event) from None


@dataclass(frozen=True, slots=True)
class Basis:
    """On what an attempt is based: the generation that the device logs in with, and whether it can be put back."""

    generation: int
    restorable: bool


def basis(*, row: Held, keycloak: Held, broker: Held | None, said: int | None) -> Basis:
    """Return the basis of a new attempt; `broker` is None where its account does not say what it holds.

    The device reaches us through the broker. Where that holds another secret than Keycloak, Keycloak's is not the
    device's: it cannot be put back, and the attempt goes forward once the device has stored the new secret.
    `row` has no fingerprint where it is not known; `said` is the generation that the device last logged in with.
    """
    if broker is not None:
        return Basis(broker.generation, restorable=broker == keycloak)
    known = keycloak.fingerprint if not row.fingerprint else row.fingerprint
    if (row.generation, known) == (keycloak.generation, keycloak.fingerprint):
        return Basis(keycloak.generation, restorable=True)
    return Basis(row.generation if said is None else said, restorable=False)


class AttemptEnding(StrEnum):
    """How an attempt ends whose time is up."""

    GIVE_UP = "give_up"
    """Nothing outside has changed."""
    RESTORE = "restore"
    """The old secret is put back in Keycloak and in the broker."""
    COMPLETE = "complete"
    """The new secret is put in both, and is the device's secret."""
    ABANDON = "abandon"
    """A later rotation has gone on from here: the row is an earlier copy, and nothing is touched."""


def ending(
    step: Step, *, new: Held, keycloak: Held | None, broker: Held | None, said: int | None, restorable: bool
) -> AttemptEnding:
    """Return how an attempt ends whose time is up, by what each place holds; None where one does not say.

    Who has stored a secret keeps it until it hears that the other one is in force. That is said only when both
    Keycloak and the broker hold the old one: until then the new secret is safe to be in force, whatever the row
    says. The old one is not, once the device has logged in with the new one.
    """
    places = [place for place in (keycloak, broker) if place is not None]
    found = [place == new for place in places]
    if any(place.generation > new.generation for place in places):
        return AttemptEnding.ABANDON
    if said == new.generation and step not in _UNPROVEN:
        return AttemptEnding.COMPLETE
    if step in _UNPROVEN or step is Step.STORED:
        return AttemptEnding.COMPLETE if any(found) else AttemptEnding.GIVE_UP
    if not restorable or (step is Step.SWITCHED and any(found) and not all(found)):
        return AttemptEnding.COMPLETE
    return AttemptEnding.RESTORE


def may_switch(step: Step, *, heard: bool, new: Held, keycloak: Held | None, broker: Held | None) -> bool:
    """Say whether to put the new secret in force, or to wait for the device to say again that it has stored it.

    `heard`: it has said so to this leader. The row alone may be an earlier copy, and the device may have been told
    since that the rotation is cancelled. A switch that has begun outside goes on.
    """
    return heard or (step is Step.SWITCHING and new in (keycloak, broker))


_UNPROVEN: Final = frozenset({Step.OFFERED, Step.DELIVERED})
"""The device has not proven yet that it stored the new secret."""
