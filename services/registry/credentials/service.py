"""Compares devices' secrets in database, Keycloak and broker, one device at a time, and repairs differences.

A change of credentials may arrive late, in part, or not at all. So each device is compared some time after each
change (`devices.verify_at`), and all of them by the reconciler; rules.py decides the repair.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from typing import Final, Protocol

import structlog
from sqlalchemy.ext.asyncio import AsyncSession

from services.registry import queries
from services.registry.context import Registry
from services.registry.credentials import queries as credential_queries
from services.registry.credentials import rules as credential_rules
from services.registry.credentials.rules import Places, Remedy
from shared import crypto
from shared.auth.keycloak import Identity
from shared.broker.mosquitto import DeviceAccount
from shared.crypto import Held
from shared.database import engine, presences
from shared.database.outbox import Outbox
from shared.database.tables import VERIFY_AFTER, Device, Presence
from shared.errors import FleetError, NotFoundError
from shared.protocol import events, messages, topics
from shared.runtime.periodic import periodic

log = structlog.get_logger()
LOOK_S: Final = 5.0
BATCH: Final = 50
RETRY: Final = timedelta(seconds=30)
CAME: Final = timedelta(seconds=10)
"""Time for a device that can log in to reconnect."""


class Seen(Protocol):
    """The state of a device's connection."""

    @property
    def online(self) -> bool:
        """Whether its last status was online."""

    @property
    def last_seen_at(self) -> datetime | None:
        """When its last message was received."""

    @property
    def refused_at(self) -> datetime | None:
        """When the broker last refused a login in its name."""


class RecordedSecret(Protocol):
    """The row's record of a device's secret."""

    @property
    def secret_generation(self) -> int:
        """Its generation."""

    @property
    def secret_fingerprint(self) -> str | None:
        """Its fingerprint, None if not known."""


@dataclass(frozen=True, slots=True)
class CredentialService:
    """Compares and repairs."""

    registry: Registry

    async def run(self) -> None:
        """Compare each due device, until cancelled."""
        await periodic(self._verify_all_due, every_s=LOOK_S, on_outage="credentials.deferred")

    async def _verify_all_due(self) -> None:
        while await self.verify_due():
            pass

    async def verify_due(self) -> bool:
        """Compare the due devices; return whether there may be more."""
        async with self.registry.database.transaction() as session:
            due = await credential_queries.claim_due(session, limit=BATCH, again_at=datetime.now(UTC) + RETRY)
        for client_id in due:
            try:
                healed = await self.heal(client_id)
                if healed is not Remedy.NONE:
                    log.warning("credentials.split", client_id=client_id, remedy=healed.value)
            except FleetError as error:
                # It is compared again after RETRY.
                log.warning("credentials.not_compared", client_id=client_id, reason=error.message)
        return len(due) == BATCH

    async def heal(self, client_id: str, *, offline: bool = False) -> Remedy:
        """Compare one device that is not in a rotation, and apply the remedy; NONE for one that is.

        A device that is not connected is rotated only if it may be `offline`: the places may agree again before it
        is back.
        """
        identities = self.registry.identities
        async with self.registry.database.transaction() as session:
            await engine.lock_identity(session, client_id)
            try:
                device, _, presence = await queries.device(session, client_id, lock=True)
            except NotFoundError:
                return Remedy.NONE  # removed in the meantime
            if device.rotation_state == "PENDING" or device.lifecycle != "ACTIVE":
                device.verify_at = datetime.now(UTC) + VERIFY_AFTER
                return Remedy.NONE
            identity, account = await self._both(device, presence, client_id)
            places = places_of(
                self.registry, presence, device, identity, account, reported=presence.secret_generation
            )
            remedy = credential_rules.remedy(places)
            # A disabled account refuses whatever secret it has.
            may_enter = device.enabled and (account is None or account.enabled)
            lies = remedy is Remedy.NONE and places.refused and may_enter
            if lies and not await self.accepts(client_id, identity):
                remedy = Remedy.PUT  # the account has another secret than recorded in it
            if remedy is Remedy.ROTATE and self._is_in_doubt(presence, places):
                await self.force_reconnect(session, device, presence, client_id)
                return Remedy.NONE
            waits = device.rotation_state != "OK" or not (places.connected or offline)
            if remedy is Remedy.ROTATE and waits:
                remedy = Remedy.NONE  # it will be rotated, or compared again once it may be online
            device.verify_at = None
            await self._apply(session, device, remedy, identity, client_id)
            if remedy is not Remedy.NONE and places.row is not None:
                facts = events.SplitFacts(remedy=remedy.value, **described(places))
                self.registry.outbox.emit(session, events.DEVICE_SPLIT, client_id, facts)
            is_enabled = (identity.enabled, account is None or account.enabled)
            if is_enabled != (device.enabled, device.enabled):
                await identities.enable(client_id, enabled=device.enabled)
            if remedy is Remedy.PUT or is_enabled != (device.enabled, device.enabled):
                self._forget_refusals(client_id, presence)
        return remedy

    async def _both(
        self, device: Device, presence: Presence, client_id: str
    ) -> tuple[Identity, DeviceAccount | None]:
        """Return a device's client and account, each recreated if lost; no account if the broker has none."""
        identity = await self.identity(device, client_id)
        broker = self.registry.identities.broker
        account = await broker.device(client_id)
        if account is None and broker.keeps_accounts:
            self._forget_refusals(client_id, presence)
            await broker.put(client_id, identity.secret, identity.generation)
            account = await broker.device(client_id)
        return identity, account

    async def _apply(
        self, session: AsyncSession, device: Device, remedy: Remedy, identity: Identity, client_id: str
    ) -> None:
        match remedy:
            case Remedy.RECORD:
                record(device, identity.held)
            case Remedy.PUT:
                await self.registry.identities.broker.put(client_id, identity.secret, identity.generation)
                device.verify_at = datetime.now(UTC) + VERIFY_AFTER
            case Remedy.ROTATE:
                device.rotation_state = "QUEUED"
                self.registry.outbox.emit(session, events.ROTATION_QUEUED, client_id, events.SelectionFacts())

    def _is_in_doubt(self, presence: Presence, places: Places) -> bool:
        """Return whether a device may be offline: it was online, but a login in its name was refused since."""
        came, refused = presence.last_seen_at, presence.refused_at
        if not places.connected or not places.accounts or came is None or refused is None:
            return False
        return came < min(refused, datetime.now(UTC) - CAME)

    async def force_reconnect(
        self, session: AsyncSession, device: Device, presence: Presence, client_id: str
    ) -> None:
        """Drop a device's connections at the broker: a device that can log in reconnects and reports online."""
        presences.leave(presence, datetime.now(UTC))
        # This locks the row before the connection ends: a device that is back at once comes after us.
        await session.flush()
        broker = self.registry.identities.broker
        await broker.enable(client_id, enabled=False)
        await broker.enable(client_id, enabled=device.enabled)
        emit_offline(self.registry.outbox, session, client_id, presence.asleep_until)
        device.verify_at = datetime.now(UTC) + CAME

    async def accepts(self, client_id: str, identity: Identity) -> bool:
        """Return whether the broker accepts an offline device with Keycloak's secret."""
        # Our own attempt does not count as a refusal of the device.
        self.registry.tried_at[client_id] = datetime.now(UTC)
        return await self.registry.identities.broker.accepts(client_id, identity.secret)

    def _forget_refusals(self, client_id: str, presence: Presence) -> None:
        """Clear the record of a refusal: the account had another secret, or was disabled."""
        presence.refused_at = None
        self.registry.refused_at.pop(client_id, None)

    async def identity(self, device: Device, client_id: str) -> Identity:
        """Return a device's client; recreate a lost one, with a secret that nobody has.

        One without a generation gets the row's if it still has the row's secret, and else the next.
        """
        keycloak = self.registry.identities.keycloak
        try:
            identity = await keycloak.get(client_id)
        except NotFoundError:
            log.warning("credentials.client_recreated", client_id=client_id)
            device.last_generation += 1
            await keycloak.create(client_id, crypto.new_secret(), device.last_generation, enabled=device.enabled)
            return await keycloak.get(client_id)
        if identity.generation > 0:
            return identity
        if device.secret_fingerprint in (None, identity.held.fingerprint):
            generation = device.secret_generation
        else:
            device.last_generation += 1
            generation = device.last_generation
        await keycloak.set_secret(client_id, identity.secret, generation)
        return replace(identity, generation=generation, has_claims=True)


def record(device: Device, held: Held) -> None:
    """Update the row to the secret in force."""
    device.secret_generation, device.secret_fingerprint = held.generation, held.fingerprint
    device.last_generation = max(device.last_generation, held.generation)


def places_of(
    registry: Registry,
    presence: Seen,
    row: RecordedSecret,
    identity: Identity,
    account: DeviceAccount | None,
    *,
    reported: int | None,
) -> Places:
    """Return the secret of a device in each place; `account` is None if the broker has none.

    `reported` is the generation that the device reported for its last login.

    The broker's start ended all connections, whatever devices had reported before.
    """
    started_at, seen = registry.broker_started_at, presence.last_seen_at
    connected = presence.online and (started_at is None or (seen is not None and seen >= started_at))
    refused = presence.refused_at is not None and (seen is None or presence.refused_at > seen)
    return Places(
        row=credential_rules.recorded(row.secret_generation, row.secret_fingerprint, identity.held),
        keycloak=identity.held,
        broker=identity.held if account is None else account.held,
        connected=connected,
        refused=refused and not connected,
        reported=reported,
        accounts=registry.identities.broker.keeps_accounts,
    )


def described(places: Places) -> dict[str, str]:
    """Return the secret in each place, as text."""
    return {
        "database": _described(places.row),
        "keycloak": _described(places.keycloak),
        "broker": _described(places.broker),
    }


def _described(held: Held | None) -> str:
    if held is None:
        return "not known"
    return f"{held.generation} ({held.fingerprint[:6] or 'not known'})"


def emit_offline(outbox: Outbox, session: AsyncSession, client_id: str, asleep_until: datetime | None) -> None:
    """Publish `offline` for a device that cannot, in place of its retained status."""
    presences.emit_left(outbox, session, client_id, asleep_until)
    outbox.put(session, topics.STATUS, messages.Status(online=False, recorded=True), client_id=client_id)
