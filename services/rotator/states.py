"""The rotation of one secret as a table of steps and events, without I/O.

Before SWITCHING nothing outside the database has changed, so an attempt may simply end; from SWITCHING on, the old
secret must be restored before it may end without success. A database restored from an earlier copy does not show
all that has happened: before an attempt ends, Keycloak, the broker and the device's own status are read, and they
take precedence over the row.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from typing import Final

from shared.crypto import Held
from shared.errors import IllegalTransitionError


class Step(StrEnum):
    """The progress of an attempt; the last three are its outcomes."""

    OFFERED = "OFFERED"
    DELIVERED = "DELIVERED"
    STORED = "STORED"
    SWITCHING = "SWITCHING"
    SWITCHED = "SWITCHED"
    RESTORING = "RESTORING"
    DONE = "DONE"
    TIMEOUT = "TIMEOUT"
    WITHDRAWN = "WITHDRAWN"


class AttemptEvent(StrEnum):
    """An event of an attempt: messages of the device, actions of the leader, timeouts, and observed states."""

    REQUESTED = "requested"
    STORED_PROVEN = "stored_proven"
    ACK_PROVEN = "ack_proven"
    SWITCH_BEGUN = "switch_begun"
    SWITCH_COMPLETED = "switch_completed"
    RESTORED = "restored"
    EXPIRED = "expired"
    LEFT = "left"
    FOUND_IN_FORCE = "found_in_force"
    OVERTAKEN = "overtaken"


ENDS: Final = frozenset({Step.DONE, Step.TIMEOUT, Step.WITHDRAWN})
BEFORE_SWITCH: Final = (Step.OFFERED, Step.DELIVERED, Step.STORED)
"""Nothing outside the database has changed: an attempt simply ends, at once if its device has left."""
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
    **{(step, AttemptEvent.LEFT): Step.WITHDRAWN for step in BEFORE_SWITCH},
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
    """The basis of an attempt: the generation of the device's login, and whether that secret can be restored."""

    generation: int
    restorable: bool


def basis(*, row: Held, keycloak: Held, broker: Held | None, reported: int | None) -> Basis:
    """Return the basis of a new attempt; `broker` is None if its account does not record its secret.

    The device is reached through the broker. If that has another secret than Keycloak, Keycloak's is not the
    device's: it cannot be restored, and the attempt continues once the device has stored the new secret. `row` has
    no fingerprint if it is not known; `reported` is the generation that the device reported for its last login.
    """
    if broker is not None:
        return Basis(broker.generation, restorable=broker == keycloak)
    known = keycloak.fingerprint if not row.fingerprint else row.fingerprint
    if (row.generation, known) == (keycloak.generation, keycloak.fingerprint):
        return Basis(keycloak.generation, restorable=True)
    return Basis(row.generation if reported is None else reported, restorable=False)


class AttemptEnding(StrEnum):
    """The end of an attempt that has timed out, or whose device has left."""

    GIVE_UP = "give_up"
    """Nothing outside has changed."""
    RESTORE = "restore"
    """The old secret is restored in Keycloak and in the broker."""
    COMPLETE = "complete"
    """The new secret is put in force in both, and is the device's secret."""
    ABANDON = "abandon"
    """A later rotation has taken over: the row is an earlier copy, and nothing is changed."""


def ending(
    step: Step, *, new: Held, keycloak: Held | None, broker: Held | None, reported: int | None, restorable: bool
) -> AttemptEnding:
    """Return the end of an attempt by the secret in each place; None if not recorded there.

    A device that has stored a secret keeps it until it is informed that the other one is in force. It is informed
    only when both Keycloak and the broker have the old one: until then the new secret is safe to be in force,
    whatever the row has. The old one is not, once the device has logged in with the new one.
    """
    places = [place for place in (keycloak, broker) if place is not None]
    found = [place == new for place in places]
    if any(place.generation > new.generation for place in places):
        return AttemptEnding.ABANDON
    if reported == new.generation and step not in _UNPROVEN:
        return AttemptEnding.COMPLETE
    if step in _UNPROVEN or step is Step.STORED:
        return AttemptEnding.COMPLETE if any(found) else AttemptEnding.GIVE_UP
    if not restorable or (step is Step.SWITCHED and any(found) and not all(found)):
        return AttemptEnding.COMPLETE
    return AttemptEnding.RESTORE


def may_switch(step: Step, *, stored: bool, new: Held, keycloak: Held | None, broker: Held | None) -> bool:
    """Return whether to put the new secret in force, or to wait until the device repeats that it has stored it.

    `stored`: it has reported so to this leader. The row alone may be an earlier copy, and the device may have
    received since that the rotation is cancelled. A switch that has begun outside continues.
    """
    return stored or (step is Step.SWITCHING and new in (keycloak, broker))


_UNPROVEN: Final = frozenset({Step.OFFERED, Step.DELIVERED})
"""The device has not proven yet that it stored the new secret."""
