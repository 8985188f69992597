"""Recovery: device keys, and the secret in force for a device whose secrets are all refused.

Only the device can compute the MAC of its request, and only it can open the answer. So a device with its key and
its row recovers whatever happened to Keycloak, to the broker's accounts or to a copy of the database.
"""

from __future__ import annotations

import asyncio
import hmac
import time
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Final

import structlog
from pydantic import SecretStr
from sqlalchemy.ext.asyncio import AsyncSession

from services.registry import queries
from services.registry.context import Registry
from services.registry.credentials import queries as credential_queries
from services.registry.credentials import service as credentials
from services.registry.credentials.service import CredentialService
from services.registry.devices.service import DeviceService
from shared import crypto
from shared.auth.keycloak import Identity
from shared.database import device_refs, engine
from shared.database.tables import VERIFY_AFTER, Device
from shared.errors import NotFoundError
from shared.mqtt.rates import Buckets, Rate
from shared.protocol import events, messages
from shared.server.rpc import RequestContext

log = structlog.get_logger()
_EACH: Final = Rate(0.1, 5)
"""Rate of answers to one device."""


@dataclass(frozen=True, slots=True)
class Recoveries:
    """Registers keys, and answers recovery requests; `gate` bounds the requests that hold transactions."""

    registry: Registry
    gate: asyncio.Semaphore
    _each: Buckets = field(default_factory=lambda: Buckets(_EACH))

    async def register(self, client_id: str, key: messages.DeviceKey) -> messages.DeviceKeyKnown | None:
        """Store a device's key if it has none, and return the registered one; None: it is not proven.

        A registered key is never replaced: a stolen secret must not be enough to become the device permanently.
        """
        async with self.registry.database.transaction() as session:
            device, _, _ = await queries.device(session, client_id)
            recovery = await self.registry.instance.recovery(session, client_id)
            if device.public_key is None and not await self._register(session, client_id, key):
                return None
            if device.public_key != key.public_key:
                log.warning("device.other_key", client_id=client_id)
                self.registry.outbox.emit(session, events.DEVICE_KEY_REFUSED, client_id, events.NoFacts())
            return messages.DeviceKeyKnown(public_key=device.public_key or key.public_key, recovery=recovery)

    async def _register(self, session: AsyncSession, client_id: str, key: messages.DeviceKey) -> bool:
        """Store the key of a device that has none; return whether the proof is valid.

        The proof is by the secret in force: a late message of the board before a reissue is refused.
        """
        crypto.check_public_key(key.public_key)
        await engine.lock_identity(session, client_id)
        identity = await self.registry.identities.keycloak.get(client_id)
        device, _, _ = await queries.device(session, client_id, lock=True)
        if not hmac.compare_digest(key.proof, crypto.key_proof(identity.secret, key.public_key)):
            log.warning("device.key_not_proven", client_id=client_id)
            return False
        if device.public_key is None:
            device.public_key = key.public_key
            RequestContext(client_id, "", session).audit(
                "device.key", client_id, after={"public_key": key.public_key}
            )
            self.registry.outbox.emit(session, events.DEVICE_KEY_REGISTERED, client_id, events.NoFacts())
        return True

    async def answer(self, request: messages.RecoverRequest) -> messages.RecoverAnswer | None:
        """Return a device's package, sealed for its key, or None for a request without a valid MAC."""
        client_id = request.client_id
        if not device_refs.is_client_id(client_id):
            return None
        async with self.gate, self.registry.database.transaction() as session:
            if not await self._proven(session, request):
                log.warning("recovery.refused", client_id=client_id)
                return None
            # Only after the check: a stranger must not use up the device's rate.
            if not self._each.take(client_id, time.monotonic()):
                return None
            await engine.lock_identity(session, client_id)
            device, _, _ = await queries.device(session, client_id, lock=True)
            identity = await self._in_force(session, device, client_id) if device.enabled else None
            if identity is None or device.public_key is None:
                log.info("recovery.deferred", client_id=client_id, enabled=device.enabled)
                return None
            package = await DeviceService(self.registry).package(session, device, identity)
            facts = events.RecoveryFacts(generation=identity.generation)
            RequestContext(client_id, "", session).audit("device.recover", client_id, after=facts.to_data())
            self.registry.outbox.emit(session, events.DEVICE_RECOVERED, client_id, facts)
            log.warning("recovery.answered", client_id=client_id, generation=identity.generation)
            return messages.RecoverAnswer(jwe=crypto.seal(SecretStr(package.model_dump_json()), device.public_key))

    async def _proven(self, session: AsyncSession, request: messages.RecoverRequest) -> bool:
        """Return whether the request is by the owner of the device's key; False if device or key is missing."""
        try:
            device, _, _ = await queries.device(session, request.client_id)
        except NotFoundError:
            return False
        if device.public_key is None:
            return False
        pair = await self.registry.instance.key_pair(session)
        mac = crypto.recovery_mac(pair, device.public_key, request.client_id, request.nonce)
        return hmac.compare_digest(mac, request.mac)

    async def _in_force(self, session: AsyncSession, device: Device, client_id: str) -> Identity | None:
        """Return the client with the secret that Keycloak and the broker have, repaired if necessary.

        None while a rotation changes them and they differ: the rotator settles that.
        """
        identities = self.registry.identities
        if await credential_queries.is_switching(session, device.id):
            identity = await identities.keycloak.get(client_id)
            account = await identities.broker.device(client_id)
            agree = account is not None and account.enabled and account.held == identity.held
            return identity if agree and identity.enabled else None
        identity = await CredentialService(self.registry).identity(device, client_id)
        account = await identities.broker.device(client_id)
        if account is None or account.held is None:
            # An account without a record of its secret has refused the device, which has authenticated itself.
            await identities.broker.put(client_id, identity.secret, identity.generation)
        elif account.held != identity.held:
            above = max(identity.generation, account.held.generation)
            identity = await self._renewed(device, client_id, above=above)
        await identities.enable(client_id, enabled=True)
        credentials.record(device, identity.held)
        device.verify_at = datetime.now(UTC) + VERIFY_AFTER
        return identity

    async def _renewed(self, device: Device, client_id: str, *, above: int) -> Identity:
        """Give the device a new secret in both places: if they differ, neither may be the device's own."""
        generation = max(device.last_generation, above) + 1
        secret = crypto.new_secret()
        await self.registry.identities.replace_secret(client_id, secret, generation)
        device.secret_created_at = datetime.now(UTC)
        return Identity(client_id, secret, generation, enabled=True, ours=True)
