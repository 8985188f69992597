"""Settles devices' secrets in Keycloak after a restore: decides between the backup's secret and Keycloak's."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import dataclass
from enum import Enum, auto
from typing import Final

from pydantic import SecretStr

from backup.archive import RecordedDevice, Secret
from shared.auth.keycloak import Identity, Keycloak
from shared.errors import ConflictError

_AT_ONCE: Final = 8


class Choice(Enum):
    """The action for a device's client in Keycloak."""

    KEEP = auto()
    MAKE = auto()
    REPLACE = auto()
    LOST = auto()


@dataclass(frozen=True, slots=True)
class Settled:
    """The secret in force for a device; None if there is none any more.

    `from_backup`: it is the one of the backup, and the device may have a newer one. `restored`: it was written to
    Keycloak just now.
    """

    device: RecordedDevice
    secret: SecretStr | None
    generation: int | None
    from_backup: bool
    restored: bool


def choose(recorded: RecordedDevice, saved: Secret | None, live: Identity | None) -> Choice:
    """Return the action for a device that is `recorded` in the database.

    Keycloak takes precedence over the backup: the device may have been rotated since, or a rotation that was open
    then may have been reverted. The exception is a generation below the one that the device had confirmed: then
    Keycloak itself has been restored to an older state.
    """
    if live is None:
        return Choice.LOST if saved is None else Choice.MAKE
    if saved is not None and live.generation < recorded.generation <= saved.generation:
        return Choice.REPLACE
    return Choice.KEEP


async def settle(
    keycloak: Keycloak,
    devices: list[RecordedDevice],
    saved: dict[str, Secret],
    advance: Callable[[], None],
) -> tuple[list[Settled], list[Identity]]:
    """Write the secrets of all devices to Keycloak, and return those then in force; idempotent.

    Also return our clients that are none of these devices. Without `saved` secrets nothing is changed.
    Raise ConflictError for a client of another instance.
    """
    live = {identity.client_id: identity for identity in await keycloak.ours()}
    turn = asyncio.Semaphore(_AT_ONCE)

    async def one(device: RecordedDevice) -> Settled:
        async with turn:
            settled = await _settle(keycloak, device, saved.get(device.client_id), live.get(device.client_id))
        advance()
        return settled

    settled = await asyncio.gather(*(one(device) for device in devices))
    strangers = live.keys() - {device.client_id for device in devices}
    return settled, [live[client_id] for client_id in sorted(strangers)]


async def _settle(
    keycloak: Keycloak, device: RecordedDevice, saved: Secret | None, live: Identity | None
) -> Settled:
    choice = choose(device, saved, live)
    if live is not None and choice is Choice.KEEP:
        same = saved is not None and saved.secret == live.secret.get_secret_value()
        return Settled(device, live.secret, live.generation, from_backup=same, restored=False)
    if saved is None:
        return Settled(device, None, None, from_backup=False, restored=False)
    secret = SecretStr(saved.secret)
    if choice is Choice.MAKE:
        try:
            await keycloak.create(device.client_id, secret, saved.generation, enabled=device.enabled)
        except ConflictError:
            raise ConflictError(
                f"Keycloak has a client {device.client_id} of another instance: is MDM_INSTANCE right?"
            ) from None
    else:
        await keycloak.set_secret(device.client_id, secret, saved.generation)
    return Settled(device, secret, saved.generation, from_backup=True, restored=True)
