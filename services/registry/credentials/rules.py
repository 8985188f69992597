"""Rules of split credentials, without I/O: database, Keycloak and broker have different secrets of a device.

A connected device has just proven to the broker that it has the broker's secret: a rotation over that connection
brings it a new one. A device that the broker refuses loses nothing if the broker gets Keycloak's secret, provided
that the row confirms Keycloak's, or that the device last logged in with another secret than the broker has now. A
refusal alone proves little: anybody can cause one in the device's name.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum

from shared.crypto import Held


class Remedy(StrEnum):
    """The repair of a split; none of them can revoke a secret that the device can use."""

    NONE = "none"
    RECORD = "record"
    """Keycloak and the broker agree: the row is updated to their secret."""
    PUT = "put"
    """The broker's account gets Keycloak's secret."""
    ROTATE = "rotate"
    """A rotation over the broker: nothing changes before the device has proven that it stored the new secret."""


@dataclass(frozen=True, slots=True)
class Places:
    """The secret of a device in each place; None if not recorded there.

    `connected`: it has logged in at the broker with the secret that the broker has now. `refused`: the broker has
    refused a login in its name since, and it is not connected. `reported` is the generation of its
    last reported login. A broker without `accounts` follows Keycloak.
    """

    row: Held | None
    keycloak: Held
    broker: Held | None
    connected: bool
    refused: bool
    reported: int | None = None
    accounts: bool = True


def recorded(generation: int, fingerprint: str | None, keycloak: Held) -> Held | None:
    """Return the row's secret, or None if the row does not contradict Keycloak: old rows have no fingerprint."""
    if fingerprint is None:
        return None if generation == keycloak.generation else Held(generation, "")
    return Held(generation, fingerprint)


def remedy(places: Places) -> Remedy:
    """Return the repair for a device that is not in a rotation."""
    row, keycloak, broker = places.row, places.keycloak, places.broker
    agree = Remedy.NONE if row == keycloak else Remedy.RECORD
    if not places.accounts:
        # It may be connected by a token for another secret than Keycloak has now.
        return Remedy.ROTATE if places.connected and row not in (None, keycloak) else agree
    if broker == keycloak:
        return agree
    if broker is None and row in (None, keycloak) and not places.refused:
        return Remedy.NONE
    has_another = places.refused and (broker is None or row == keycloak or places.reported != broker.generation)
    is_older = broker is not None and row == keycloak and broker.generation <= keycloak.generation
    return Remedy.PUT if has_another or (is_older and not places.connected) else Remedy.ROTATE
