"""Rules of split credentials, without I/O: database, Keycloak and broker hold different secrets of a device.

A device that is connected has just proven to the broker that it has the broker's secret: that is then the road by
which a rotation brings it a new one. A device that the broker refuses loses nothing when Keycloak's is put in its
place, if the row says that Keycloak's is the right one, or if it last logged in with another secret than the
broker holds now. A refusal alone says little: everybody can be refused in its name.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum

from shared.crypto import Held


class Remedy(StrEnum):
    """What makes the places agree; none of them can take a secret away that the device can use."""

    NONE = "none"
    RECORD = "record"
    """Keycloak and the broker agree: the row says what they hold."""
    PUT = "put"
    """The broker's account gets Keycloak's secret."""
    ROTATE = "rotate"
    """A rotation over the broker: nothing changes before the device has proven that it stored the new secret."""


@dataclass(frozen=True, slots=True)
class Places:
    """What each place holds of a device; None where it does not say.

    `connected`: it has logged in at the broker with the secret that the broker holds now. `refused`: the broker
    has refused somebody in its name since, and it is not connected. `said` is the generation with which it says
    that it logged in last. A broker that keeps no `accounts` goes by Keycloak's.
    """

    row: Held | None
    keycloak: Held
    broker: Held | None
    connected: bool
    refused: bool
    said: int | None = None
    accounts: bool = True


def recorded(generation: int, fingerprint: str | None, keycloak: Held) -> Held | None:
    """Return what the row says, or None if it says nothing against Keycloak: old rows have no fingerprint."""
    if fingerprint is None:
        return None if generation == keycloak.generation else Held(generation, "")
    return Held(generation, fingerprint)


def remedy(places: Places) -> Remedy:
    """Return what to do about a device that is not in a rotation."""
    row, keycloak, broker = places.row, places.keycloak, places.broker
    agree = Remedy.NONE if row == keycloak else Remedy.RECORD
    if not places.accounts:
        # It may be connected by a token for another secret than Keycloak holds now.
        return Remedy.ROTATE if places.connected and row not in (None, keycloak) else agree
    if broker == keycloak:
        return agree
    if broker is None and row in (None, keycloak) and not places.refused:
        return Remedy.NONE
    has_another = places.refused and (broker is None or row == keycloak or places.said != broker.generation)
    is_older = broker is not None and row == keycloak and broker.generation <= keycloak.generation
    return Remedy.PUT if has_another or (is_older and not places.connected) else Remedy.ROTATE
