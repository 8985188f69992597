"""The device's rules of a rotation, without I/O.

Two slots: the first is confirmed, the second on trial. A login tries the second first while it is filled and falls
back to the first when the broker refuses it. A slot is discarded only when the server reports its secret as
invalid, so in every interleaving of crash, loss, duplicate and delay one slot holds a secret that works.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from datetime import datetime
from enum import StrEnum
from typing import Final
from uuid import UUID

from pydantic import SecretStr

from shared.errors import IllegalTransitionError
from shared.protocol import messages


@dataclass(frozen=True, slots=True)
class Slot:
    """A secret, its generation, and the rotation that brought it (None for the provisioned one)."""

    secret: SecretStr
    generation: int
    rotation_id: UUID | None = None


@dataclass(frozen=True, slots=True)
class Slots:
    """The durable state: the confirmed secret, and one on trial."""

    first: Slot
    second: Slot | None = None


@dataclass(frozen=True, slots=True)
class Wanted:
    """An accepted offer whose secret has not been received yet; in memory only."""

    rotation_id: UUID
    generation: int
    deadline: datetime


class SlotChange(StrEnum):
    """A change of the slots."""

    KEEP = "keep"
    PROMOTE = "promote"
    DISCARD = "discard"


class Due(StrEnum):
    """The message to repeat until the server has moved on."""

    REQUEST = "request"
    STORED = "stored"
    ACK = "ack"


class OfferVerdict(StrEnum):
    """The result of an offer."""

    ACCEPTED = "accepted"
    REPEATED = "repeated"
    STALE = "stale"
    EXPIRED = "expired"
    FOREIGN = "foreign"


@dataclass(frozen=True, slots=True)
class OfferAnswer:
    """The outcome of an offer: the change of the slots, the offer accepted from now on, and the verdict."""

    change: SlotChange
    wanted: Wanted | None
    verdict: OfferVerdict


_SAME: Final = frozenset({OfferVerdict.ACCEPTED, OfferVerdict.REPEATED})


def is_ours(verdict: OfferVerdict) -> bool:
    """Return whether the offer is to be acted upon."""
    return verdict in _SAME


def login_order(slots: Slots) -> tuple[Slot, ...]:
    """Return the slots to try, best first; each only after the broker has refused the previous one."""
    return (slots.first,) if slots.second is None else (slots.second, slots.first)


def promoted(slots: Slots) -> Slots:
    """Return the slots with the second as the first; raise IllegalTransitionError if it is empty."""
    if slots.second is None:
        raise IllegalTransitionError("the second slot is empty and cannot be promoted")
    return Slots(slots.second)


def discarded(slots: Slots) -> Slots:
    """Return the slots with the second emptied."""
    return Slots(slots.first)


def filled(slots: Slots, slot: Slot) -> Slots:
    """Return the slots with `slot` on trial; raise IllegalTransitionError if another one is."""
    if slots.second is not None:
        raise IllegalTransitionError("the second slot is filled and must be settled first")
    return replace(slots, second=slot)


def spare(slots: Slots, provisioned: Slot) -> Slot | None:
    """Return the package's secret if it is newer than the first slot's and not in the second.

    A package may be written while a rotation is in progress, so its secret is only tried last.
    """
    known = slots.second is not None and slots.second.generation == provisioned.generation
    return None if known or provisioned.generation <= slots.first.generation else provisioned


def adopted(slots: Slots, provisioned: Slot) -> Slots:
    """Return the slots after the server confirmed the package's generation: older secrets are invalid."""
    newer = slots.second is not None and slots.second.generation > provisioned.generation
    return Slots(provisioned, slots.second if newer else None)


def recovered(slots: Slots, slot: Slot) -> Slots:
    """Return the slots with the recovered secret on trial; it is confirmed by a login."""
    if slot.secret == slots.first.secret:
        return Slots(replace(slots.first, generation=slot.generation))
    if slots.second is not None and slot.secret == slots.second.secret:
        return Slots(slots.first, replace(slots.second, generation=slot.generation))
    return Slots(slots.first, slot)


def on_offer(
    slots: Slots, wanted: Wanted | None, offer: messages.RotationOffer, *, now: datetime | None
) -> OfferAnswer:
    """Judge an offer at `now` (None: not known); its present generation settles an older trial first."""
    if slots.second is not None and offer.rotation_id == slots.second.rotation_id:
        return OfferAnswer(SlotChange.KEEP, wanted, OfferVerdict.REPEATED)
    if offer.generation <= max(slot.generation for slot in login_order(slots)):
        return OfferAnswer(SlotChange.KEEP, wanted, OfferVerdict.STALE)
    change = _settlement(slots, offer.current_generation)
    if change is None:
        return OfferAnswer(SlotChange.KEEP, wanted, OfferVerdict.FOREIGN)
    return OfferAnswer(change, *_accept(wanted, offer, now))


def _settlement(slots: Slots, current_generation: int) -> SlotChange | None:
    """Return the change that the generation in force implies, or None if it is in neither slot."""
    if slots.second is not None and current_generation == slots.second.generation:
        return SlotChange.PROMOTE
    if current_generation != slots.first.generation:
        return None
    return SlotChange.KEEP if slots.second is None else SlotChange.DISCARD


def _accept(
    wanted: Wanted | None, offer: messages.RotationOffer, now: datetime | None
) -> tuple[Wanted | None, OfferVerdict]:
    """Return the accepted offer after an offer that fits the slots, and the verdict."""
    repeated = wanted is not None and wanted.rotation_id == offer.rotation_id
    # Generations only grow, so the lower one of two offers is the older one.
    if wanted is not None and not repeated and offer.generation <= wanted.generation:
        return wanted, OfferVerdict.STALE
    if _is_over(offer.deadline, now):
        return None, OfferVerdict.EXPIRED
    accepted = Wanted(offer.rotation_id, offer.generation, offer.deadline)
    return accepted, OfferVerdict.REPEATED if repeated else OfferVerdict.ACCEPTED


def _is_over(deadline: datetime, now: datetime | None) -> bool:
    """Return whether a deadline is over; a device that does not know the time leaves it to the server."""
    return now is not None and deadline <= now


def takes_secret(
    slots: Slots, wanted: Wanted | None, secret: messages.RotationSecret, *, now: datetime | None
) -> bool:
    """Return whether `secret` belongs to the accepted offer, is in time, and may go into the second slot."""
    return (
        wanted is not None
        and slots.second is None
        and not _is_over(wanted.deadline, now)
        and (secret.rotation_id, secret.generation) == (wanted.rotation_id, wanted.generation)
    )


def on_done(slots: Slots, rotation_id: UUID) -> SlotChange:
    """Promote the second slot if it holds this rotation's secret."""
    return SlotChange.PROMOTE if slots.second and slots.second.rotation_id == rotation_id else SlotChange.KEEP


def on_confirmed(slots: Slots, generation: int) -> SlotChange:
    """Promote the second slot if the server has confirmed its generation."""
    return SlotChange.PROMOTE if slots.second and slots.second.generation == generation else SlotChange.KEEP


def on_cancelled(slots: Slots, rotation_id: UUID) -> SlotChange:
    """Discard the second slot if it holds this rotation's secret."""
    return SlotChange.DISCARD if slots.second and slots.second.rotation_id == rotation_id else SlotChange.KEEP


def must_switch(slots: Slots, login: int | None, rotation_id: UUID) -> bool:
    """Return whether to log in again, now that the broker requires this secret; `login` is a generation."""
    second = slots.second
    return second is not None and second.rotation_id == rotation_id and login != second.generation


def is_orphan(slots: Slots, login: int | None) -> bool:
    """Return whether the secret of the current login is no longer in any slot."""
    return login is not None and login not in {slot.generation for slot in login_order(slots)}


def due(slots: Slots, wanted: Wanted | None, login: int | None, *, now: datetime | None) -> Due | None:
    """Return the message that is due while logged in with the generation `login`, or None."""
    if slots.second is not None:
        if login == slots.second.generation:
            return Due.ACK
        return Due.STORED if login == slots.first.generation else None
    if wanted is not None and login is not None and not _is_over(wanted.deadline, now):
        return Due.REQUEST
    return None
