"""The device's rules of connection profiles, without I/O.

A profile works when a request of the configuration is answered over it, or an offer arrives over it. Only a
profile on trial that is answered, or a new package, becomes the first; the one that worked last is kept as its
fallback. So in every interleaving of offers, restarts and failed connections, the profile that worked last is the
first or the fallback, and both have their turn.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, fields, replace
from enum import StrEnum
from typing import Final, Literal

from pydantic import TypeAdapter

from shared.errors import IllegalTransitionError
from shared.protocol.admin import Package
from shared.protocol.messages import ConnectionProfile, ConnectionState, RefusedConnection, WifiNetwork

_RESTARTED: Final = "the device restarted during the trial"


class Place(StrEnum):
    """The place of a profile that is not on trial."""

    FIRST = "first"
    FALLBACK = "fallback"


@dataclass(frozen=True, slots=True)
class StoredProfile:
    """A connection profile with its id, which that of an old package does not have."""

    connection_id: str | None
    mqtt_host: str
    mqtt_port: int
    mqtt_tls: bool
    mqtt_auth: Literal["password", "token"]
    token_url: str
    ca_certificate: str | None
    recovery_port: int | None
    wifi: tuple[WifiNetwork, ...] | None


_SAME_NAMES: Final = frozenset(it.name for it in fields(StoredProfile)) - {
    "connection_id",
    "recovery_port",
    "wifi",
}


_PROFILE: Final = TypeAdapter(StoredProfile)


@dataclass(frozen=True, slots=True)
class ConnectionSlots:
    """The durable state.

    `packaged` is the fingerprint of the package's profile, `works` the place of the profile that worked last,
    `turn` that of the one to use, unless one is on trial. `starts` counts those in a row without an answer.
    """

    first: StoredProfile
    packaged: str
    fallback: StoredProfile | None = None
    trial: StoredProfile | None = None
    refused: RefusedConnection | None = None
    works: Place | None = None
    turn: Place = Place.FIRST
    starts: int = 0


class OfferedProfile(StrEnum):
    """What to do with an offer."""

    IN_USE = "in_use"
    POSTPONE = "postpone"
    TRY = "try"


def of_package(package: Package) -> StoredProfile:
    """Return the package's profile."""
    return StoredProfile(
        connection_id=package.connection_id,
        recovery_port=None if package.recovery is None else package.recovery.port,
        wifi=None if package.wifi is None else tuple(package.wifi),
        **{name: getattr(package, name) for name in _SAME_NAMES},
    )


def of_offer(connection_id: str, profile: ConnectionProfile) -> StoredProfile:
    """Return an offered profile."""
    return StoredProfile(
        connection_id=connection_id,
        recovery_port=profile.recovery_port,
        wifi=None if profile.wifi is None else tuple(profile.wifi),
        **{name: getattr(profile, name) for name in _SAME_NAMES},
    )


def applied(package: Package, profile: StoredProfile) -> Package:
    """Return the package with this profile; without networks in the profile, with its own."""
    changes = {name: getattr(profile, name) for name in _SAME_NAMES}
    wifi = package.wifi if profile.wifi is None else list(profile.wifi)
    return package.model_copy(update={**changes, "connection_id": profile.connection_id, "wifi": wifi})


def begun(package: StoredProfile) -> ConnectionSlots:
    """Return the slots of a device that starts for the first time."""
    return ConnectionSlots(package, _fingerprint(package))


def in_use(slots: ConnectionSlots) -> StoredProfile:
    """Return the profile to connect with."""
    if slots.trial is not None:
        return slots.trial
    return slots.fallback if slots.turn is Place.FALLBACK and slots.fallback is not None else slots.first


def state(slots: ConnectionSlots) -> ConnectionState:
    """Return what the device reports."""
    return ConnectionState(
        first=slots.first.connection_id,
        fallback=None if slots.fallback is None else slots.fallback.connection_id,
        in_use=in_use(slots).connection_id,
        refused=slots.refused,
    )


def judge(slots: ConnectionSlots, connection_id: str, *, busy: bool) -> OfferedProfile:
    """Judge an offer; with `busy`, an image or a configuration is on trial."""
    if connection_id == in_use(slots).connection_id:
        return OfferedProfile.IN_USE
    return OfferedProfile.POSTPONE if busy or slots.trial is not None else OfferedProfile.TRY


def tried(slots: ConnectionSlots, profile: StoredProfile) -> ConnectionSlots:
    """Return the slots with `profile` on trial; raise IllegalTransitionError if one is already.

    The offer came over the profile in use, which therefore works.
    """
    if slots.trial is not None:
        raise IllegalTransitionError("another connection profile is on trial")
    return replace(slots, trial=profile, works=slots.turn, starts=0)


def rejected(slots: ConnectionSlots, connection_id: str, reason: str) -> ConnectionSlots:
    """Return the slots after an offer that cannot be used."""
    refused = RefusedConnection(connection_id=connection_id, outcome="rejected", reason=reason)
    return replace(slots, refused=refused)


def reverted(slots: ConnectionSlots, reason: str) -> ConnectionSlots:
    """Return the slots after a trial that failed; raise IllegalTransitionError if there is none."""
    if slots.trial is None:
        raise IllegalTransitionError("no connection profile is on trial")
    facts = {"connection_id": slots.trial.connection_id, "outcome": "reverted", "reason": reason}
    return replace(slots, trial=None, refused=RefusedConnection.model_validate(facts))


def answered(slots: ConnectionSlots) -> ConnectionSlots:
    """Return the slots after an answer over the profile in use: it works, and one on trial becomes the first."""
    if slots.trial is None:
        return replace(slots, works=slots.turn, starts=0)
    refused = slots.refused
    if refused is not None and refused.connection_id == slots.trial.connection_id:
        refused = None
    moved = replace(_replaced(slots, slots.trial), trial=None, refused=refused)
    return replace(moved, works=Place.FIRST)


def started(slots: ConnectionSlots, package: StoredProfile, *, starts_max: int) -> ConnectionSlots:
    """Return the slots at a start of the device with this package.

    A trial has failed. A new package is the first. After so many starts without an answer the turn passes.
    """
    if slots.trial is not None:
        slots = reverted(slots, _RESTARTED)
    if slots.packaged != _fingerprint(package):
        return _provisioned(slots, package)
    if slots.fallback is not None and slots.starts >= starts_max:
        return turned(slots)
    return slots


def counted(slots: ConnectionSlots) -> ConnectionSlots:
    """Return the slots with one more start without an answer."""
    return replace(slots, starts=slots.starts + 1)


def turned(slots: ConnectionSlots) -> ConnectionSlots:
    """Return the slots when it is the other profile's turn; raise IllegalTransitionError if there is none."""
    if slots.fallback is None or slots.trial is not None:
        raise IllegalTransitionError("no other connection profile may have its turn")
    turn = Place.FIRST if slots.turn is Place.FALLBACK else Place.FALLBACK
    return replace(slots, turn=turn, starts=0)


def _provisioned(slots: ConnectionSlots, package: StoredProfile) -> ConnectionSlots:
    packaged = _fingerprint(package)
    if _same(package, slots.first):
        return replace(slots, first=package, packaged=packaged, turn=Place.FIRST, starts=0)
    moved = _replaced(slots, package)
    works = None if moved.fallback is None else Place.FALLBACK
    return replace(moved, packaged=packaged, works=works)


def _replaced(slots: ConnectionSlots, profile: StoredProfile) -> ConnectionSlots:
    """Return the slots with another first; what worked last is its fallback, and what never worked is dropped."""
    worked = {None: None, Place.FIRST: slots.first, Place.FALLBACK: slots.fallback}[slots.works]
    if worked is not None and _same(worked, profile):
        worked = slots.fallback  # only the id is another one
    return replace(slots, first=profile, fallback=worked, turn=Place.FIRST, starts=0)


def _same(one: StoredProfile, other: StoredProfile) -> bool:
    return replace(one, connection_id=other.connection_id) == other


def _fingerprint(profile: StoredProfile) -> str:
    return hashlib.sha256(_PROFILE.dump_json(profile)).hexdigest()
