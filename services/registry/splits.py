"""Rules of split credentials, without I/O: database, Keycloak and broker hold different secrets of a device.

A device that is connected has just proven to the broker that it has the broker's secret: that is then the road by
which a rotation brings it a new one. A device that the broker refuses has another secret than the broker, so that
nothing is lost when Keycloak's is put in its place.
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
    has refused it since, and it is not connected.
    """

    row: Held | None
    keycloak: Held
    broker: Held | None
    connected: bool
    refused: bool


def recorded(generation: int, fingerprint: str | None, keycloak: Held) -> Held | None:
    """Return what the row says, or None if it says nothing against Keycloak: old rows have no fingerprint."""
    if fingerprint is None:
        return None if generation == keycloak.generation else Held(generation, "")
    return Held(generation, fingerprint)


def remedy(places: Places) -> Remedy:
    """Return what to do about a device that is not in a rotation."""
    row, keycloak, broker = places.row, places.keycloak, places.broker
    if broker == keycloak:
        return Remedy.NONE if row == keycloak else Remedy.RECORD
    if places.connected:
        return Remedy.NONE if broker is None and row in (None, keycloak) else Remedy.ROTATE
    if places.refused:
        return Remedy.PUT
    if broker is None:
        return Remedy.NONE if row in (None, keycloak) else Remedy.ROTATE
    if row == keycloak and broker.generation <= keycloak.generation:
        return Remedy.PUT
    return Remedy.ROTATE
