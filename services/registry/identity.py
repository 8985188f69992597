"""The making of a device's identity, as a saga: row CREATING, Keycloak client, broker account, row ACTIVE.

A failure undoes what was done. A crash leaves a row CREATING: the same request sent again goes on with it,
and `undo_unfinished` removes it when nobody does. Who works on a saga holds the lock of its request's origin.
"""

from __future__ import annotations

import secrets
from dataclasses import dataclass

import structlog
from sqlalchemy import delete, func, select, update
from sqlalchemy.exc import SQLAlchemyError
from sqlalchemy.ext.asyncio import AsyncSession

from services.registry import configuration, db, domain
from shared import crypto, names
from shared.admin import DeviceAdd
from shared.broker_accounts import BrokerAccounts
from shared.errors import ConflictError, FleetError
from shared.keycloak import Keycloak
from shared.postgres import Database
from shared.requests import Caller, lock_key
from shared.schema import Device, DeviceConfig, DeviceModel, Presence

log = structlog.get_logger()
FIRST_GENERATION = 1


@dataclass(frozen=True, slots=True)
class Identities:
    """Makes and unmakes identities, in the database, Keycloak and the broker alike."""

    database: Database
    keycloak: Keycloak
    accounts: BrokerAccounts

    async def create(self, caller: Caller, request: DeviceAdd) -> str:
        """Return the client id of a new device, ACTIVE once the caller's transaction commits."""
        device_id, client_id = await self._intend(caller, request)
        try:
            await self._establish(client_id)
            # A savepoint: what it refuses must not keep the row locked while it is undone.
            async with caller.session.begin_nested():
                activation = update(Device).where(Device.id == device_id)
                await caller.session.execute(activation.values(lifecycle="ACTIVE", secret_created_at=func.now()))
        except (FleetError, SQLAlchemyError):
            await self._undo_or_leave(device_id, client_id)
            raise
        return client_id

    async def undo_unfinished(self) -> int:
        """Remove each device whose making was cut off and is worked on by nobody; return how many."""
        async with self.database.transaction() as session:
            unfinished = await db.unfinished(session)
        undone = 0
        for device_id, client_id, origin in unfinished:
            async with self.database.transaction() as session:
                free = await session.scalar(select(func.pg_try_advisory_xact_lock(lock_key(origin))))
                # Asked again under the lock: its request may have been repeated and have finished it.
                if free and await db.is_unfinished(session, device_id):
                    undone += await self._undo_or_leave(device_id, client_id)
        return undone

    async def _intend(self, caller: Caller, request: DeviceAdd) -> tuple[int, str]:
        """Commit the intent, or find the one that the same request left before a crash."""
        async with self.database.transaction() as session:
            begun = await session.scalar(select(Device).where(Device.request_id == caller.origin))
            model = await db.model(session, request.model)
            if begun is None:
                begun = await _insert(session, model, request, caller)
            return begun.id, names.client_id(model.code, begun.key)

    async def _establish(self, client_id: str) -> None:
        secret = crypto.new_secret()
        try:
            await self.keycloak.create(client_id, secret, FIRST_GENERATION)
        except ConflictError:
            if not (await self.keycloak.get(client_id)).ours:
                raise
            await self.keycloak.set_secret(client_id, secret, FIRST_GENERATION)
        await self.accounts.put(client_id, secret)

    async def _undo_or_leave(self, device_id: int, client_id: str) -> bool:
        """Undo a device that never became ACTIVE; what can not be undone now stays for the next time."""
        try:
            await self.accounts.delete(client_id)
            await self.keycloak.delete(client_id)
            async with self.database.transaction() as session:
                await session.execute(delete(Device).where(Device.id == device_id, Device.lifecycle == "CREATING"))
        except FleetError as error:
            log.warning("identity.undo_later", client_id=client_id, reason=error.message)
            return False
        log.info("identity.undone", client_id=client_id)
        return True


async def _insert(session: AsyncSession, model: DeviceModel, request: DeviceAdd, caller: Caller) -> Device:
    configuration.check(model.config_defaults, model.config_schema, field="model defaults")
    device = Device(
        key=domain.new_key(secrets.choice),
        model_id=model.id,
        name=request.name,
        tags=request.tags,
        lifecycle="CREATING",
        request_id=caller.origin,
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
                author=caller.account,
            ),
            Presence(device_id=device.id),
        ]
    )
    return device
