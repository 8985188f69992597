"""Creation and removal of identities as a saga: row CREATING, Keycloak client, broker account, row ACTIVE.

A failure reverts the steps. A crash leaves a row CREATING: a repeated request continues it, and `end_unfinished`
removes it if there is none. A saga runs under the lock of its request's origin.
"""

from __future__ import annotations

import secrets
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Any

import structlog
from pydantic import SecretStr
from sqlalchemy import delete, func, select, update
from sqlalchemy.exc import SQLAlchemyError
from sqlalchemy.ext.asyncio import AsyncSession

from services.registry import queries, rules
from shared import crypto
from shared.auth.keycloak import Keycloak
from shared.broker.api import Broker
from shared.crypto import Held
from shared.database import device_refs
from shared.database.engine import Database
from shared.database.tables import VERIFY_AFTER, Device, DeviceConfig, DeviceModel, Presence
from shared.errors import ConflictError, FleetError
from shared.mqtt import retained
from shared.mqtt.connection import Connection
from shared.protocol import messages, topics
from shared.protocol.admin import DeviceAdd
from shared.protocol.topics import Topic
from shared.server.rpc import RequestContext, lock_key

log = structlog.get_logger()
FIRST_GENERATION = 1


@dataclass(frozen=True, slots=True)
class Identities:
    """Creates and removes identities, in the database, Keycloak and the broker."""

    database: Database
    keycloak: Keycloak
    broker: Broker
    connection: Connection

    async def ready(self) -> None:
        """Wait until the broker is reachable."""
        await self.connection.ready()
        await self.broker.ready()

    async def create(self, context: RequestContext, request: DeviceAdd) -> str:
        """Return the client id of a new device, ACTIVE once the caller's transaction commits."""
        device_id, client_id = await self._intend(context, request)
        try:
            held = await self._establish(client_id)
            # A savepoint: a refusal by it must not keep the row locked while it is reverted.
            async with context.session.begin_nested():
                activation = update(Device).where(Device.id == device_id)
                facts = {"secret_fingerprint": held.fingerprint, "verify_at": func.now() + VERIFY_AFTER}
                await context.session.execute(
                    activation.values(lifecycle="ACTIVE", secret_created_at=func.now(), **facts)
                )
        except (FleetError, SQLAlchemyError):
            await self._delete_or_defer(device_id, client_id)
            raise
        return client_id

    async def enable(self, client_id: str, *, enabled: bool) -> None:
        """Enable the device in Keycloak and the broker, or disable and disconnect it, if the broker can.

        The retained messages of a disabled device are cleared, except for its status, which becomes offline.
        """
        if enabled:
            await self.keycloak.enable(client_id, enabled=True)
            await self.broker.enable(client_id, enabled=True)
            return

        async def at_broker() -> None:
            await self.broker.enable(client_id, enabled=False)
            # Only now: before, it could have published that it is online.
            await self._publish_offline(client_id)

        await self._refuse(at_broker, lambda: self.keycloak.enable(client_id, enabled=False))
        await self.clear_retained(client_id, topics.STATUS)

    async def replace_secret(self, client_id: str, secret: SecretStr, generation: int) -> None:
        """Put a secret in force that only the caller knows; the broker disconnects the device."""
        await self.keycloak.set_secret(client_id, secret, generation)
        await self._publish_offline(client_id)
        await self.broker.put(client_id, secret, generation)

    async def remove(self, context: RequestContext, client_id: str) -> None:
        """Remove a device everywhere, its row when the caller's transaction commits.

        What cannot be reached now is removed later: a device in REMOVING never returns.
        """
        async with self.database.transaction() as session:
            device, _, _ = await queries.device(session, client_id, lock=True)
            rules.refuse_in_rotation(client_id, device.rotation_state)
            device.lifecycle = "REMOVING"
            device_id, origin = device.id, device.request_id
        await context.session.execute(select(func.pg_advisory_xact_lock(lock_key(origin))))
        await self.delete(client_id)
        await context.session.execute(delete(Device).where(Device.id == device_id))

    async def end_unfinished(self) -> int:
        """Finish the interrupted creation or removal of each device that nobody works on."""
        async with self.database.transaction() as session:
            unfinished = await queries.unfinished(session)
        ended = 0
        for device_id, client_id, origin in unfinished:
            async with self.database.transaction() as session:
                free = await session.scalar(select(func.pg_try_advisory_xact_lock(lock_key(origin))))
                # Checked again under the lock: a repeated request may have finished it.
                if free and await queries.is_unfinished(session, device_id):
                    ended += await self._delete_or_defer(device_id, client_id)
        return ended

    async def _intend(self, context: RequestContext, request: DeviceAdd) -> tuple[int, str]:
        """Commit the intent, or return the one that an earlier delivery of the request left before a crash."""
        async with self.database.transaction() as session:
            device = await session.scalar(select(Device).where(Device.request_id == context.origin))
            if device is None:
                device = await _insert(session, await queries.model(session, request.model), request, context)
            model = await session.get_one(DeviceModel, device.model_id)
            return device.id, device_refs.client_id(model.code, device.key)

    async def _establish(self, client_id: str) -> Held:
        secret = crypto.new_secret()
        try:
            await self.keycloak.create(client_id, secret, FIRST_GENERATION)
        except ConflictError:
            if not (await self.keycloak.get(client_id)).ours:
                raise
            await self.keycloak.set_secret(client_id, secret, FIRST_GENERATION)
        await self.broker.put(client_id, secret, FIRST_GENERATION)
        return Held.of(secret, FIRST_GENERATION)

    async def _delete_or_defer(self, device_id: int, client_id: str) -> bool:
        """Remove a device that is not ACTIVE; what cannot be removed now is left for the next pass."""
        try:
            await self.delete(client_id)
            async with self.database.transaction() as session:
                await session.execute(delete(Device).where(Device.id == device_id, Device.lifecycle != "ACTIVE"))
        except FleetError as error:
            log.warning("identity.revert_deferred", client_id=client_id, reason=error.message)
            return False
        log.info("identity.reverted", client_id=client_id)
        return True

    async def delete(self, client_id: str) -> None:
        """Remove account, client and retained messages; ignore missing ones."""
        await self._refuse(lambda: self.broker.delete(client_id), lambda: self.keycloak.delete(client_id))
        await self.clear_retained(client_id)

    async def clear_retained(self, client_id: str, *keep: Topic[Any]) -> None:
        """Clear a device's retained messages, on all topics that any version allowed it to write."""
        kept = [topic.of(client_id=client_id) for topic in keep]
        await retained.clear(self.connection, *topics.left_by(client_id), keep=kept)

    async def _refuse(
        self, at_broker: Callable[[], Awaitable[None]], at_keycloak: Callable[[], Awaitable[None]]
    ) -> None:
        """Disable a device: at the broker first, so that it is refused even if Keycloak is unavailable.

        A broker that checks tokens comes last: a device that it drops earlier could return with a new token.
        """
        for refuse in (at_broker, at_keycloak) if self.broker.keeps_accounts else (at_keycloak, at_broker):
            await refuse()

    async def _publish_offline(self, client_id: str) -> None:
        """Publish `offline` for a device that is dropped."""
        if self.broker.drops:
            await self.connection.send(topics.STATUS, messages.Status(online=False), client_id=client_id)


async def _insert(
    session: AsyncSession, model: DeviceModel, request: DeviceAdd, context: RequestContext
) -> Device:
    device = Device(
        key=rules.new_key(secrets.choice),
        model_id=model.id,
        name=request.name,
        tags=request.tags,
        lifecycle="CREATING",
        request_id=context.origin,
        config_version=1,
    )
    session.add(device)
    await session.flush()
    session.add_all(
        [
            DeviceConfig(
                device_id=device.id,
                version=1,
                overrides={},
                document=model.config_defaults,
                author=context.account,
            ),
            Presence(device_id=device.id),
        ]
    )
    return device
