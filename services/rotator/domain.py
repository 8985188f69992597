"""The rotation of one secret as a table of steps and events, without I/O.

Before SWITCHING nothing outside the database has changed, so an attempt may simply end; from SWITCHING on, the
old secret must be put back before it may end without success.
"""

from __future__ import annotations

from enum import StrEnum
from typing import Final

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


class Event(StrEnum):
    """What can happen to an attempt: three messages of the device, three deeds of the leader, and time."""

    REQUESTED = "requested"
    STORED_PROVEN = "stored_proven"
    ACK_PROVEN = "ack_proven"
    SWITCH_BEGUN = "switch_begun"
    SWITCH_COMPLETED = "switch_completed"
    RESTORED = "restored"
    EXPIRED = "expired"


TRANSITIONS: Final[dict[tuple[Step, Event], Step]] = {
    (Step.OFFERED, Event.REQUESTED): Step.DELIVERED,
    (Step.OFFERED, Event.EXPIRED): Step.TIMEOUT,
    (Step.DELIVERED, Event.REQUESTED): Step.DELIVERED,
    (Step.DELIVERED, Event.STORED_PROVEN): Step.STORED,
    (Step.DELIVERED, Event.EXPIRED): Step.TIMEOUT,
    (Step.STORED, Event.REQUESTED): Step.STORED,
    (Step.STORED, Event.STORED_PROVEN): Step.STORED,
    (Step.STORED, Event.SWITCH_BEGUN): Step.SWITCHING,
    (Step.STORED, Event.EXPIRED): Step.TIMEOUT,
    (Step.SWITCHING, Event.REQUESTED): Step.SWITCHING,
    (Step.SWITCHING, Event.STORED_PROVEN): Step.SWITCHING,
    (Step.SWITCHING, Event.SWITCH_BEGUN): Step.SWITCHING,
    (Step.SWITCHING, Event.SWITCH_COMPLETED): Step.SWITCHED,
    (Step.SWITCHING, Event.EXPIRED): Step.RESTORING,
    (Step.SWITCHED, Event.REQUESTED): Step.SWITCHED,
    (Step.SWITCHED, Event.STORED_PROVEN): Step.SWITCHED,
    (Step.SWITCHED, Event.ACK_PROVEN): Step.DONE,
    (Step.SWITCHED, Event.EXPIRED): Step.RESTORING,
    (Step.RESTORING, Event.RESTORED): Step.TIMEOUT,
}

ENDS: Final = frozenset({Step.DONE, Step.TIMEOUT})


def advance(step: Step, event: Event) -> Step:
    """Return the next step; raise IllegalTransitionError if there is none."""
    try:
        return TRANSITIONS[step, event]
    except KeyError:
        raise IllegalTransitionError(f"{event} does not belong to {step}", step=step, event=event) from None
