"""The identity of the installation: one id in database, Keycloak and broker prevents use with another's."""

from __future__ import annotations

import zlib
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Final

import structlog
from joserfc.jwk import OKPKey
from sqlalchemy import select
from sqlalchemy.ext.asyncio import AsyncSession

from shared import crypto
from shared.auth.keycloak import Keycloak
from shared.broker.api import Broker
from shared.database import tables
from shared.database.engine import Database
from shared.database.tables import AdminRequest, ConnectionLayer
from shared.errors import ConflictError, FleetError
from shared.protocol import messages
from shared.runtime.settings import RegistrySettings
from shared.server.rpc import SEALED

log = structlog.get_logger()
ACCOUNTS: Final = tuple(f"recover-{number:02}" for number in range(64))
"""The public accounts of recovery; the password and MQTT client id of each are its name.

So none of them can take over a device's session; a client that holds one blocks the devices that share it.
"""


class OtherInstallationError(FleetError):
    """Keycloak or the broker belongs to another database and must not be changed."""

    code = "other_installation"


@dataclass(frozen=True, slots=True)
class Installation:
    """The installation's id in all three places, and its key pair for recovery."""

    database: Database
    keycloak: Keycloak
    broker: Broker
    vault: crypto.Vault
    settings: RegistrySettings

    async def check(self) -> None:
        """Mark Keycloak and the broker if unmarked; raise OtherInstallationError if another installation has."""
        await self.ensure_key_pair()
        async with self.database.transaction() as session:
            ours = str((await row(session)).uuid)
        await _check("Keycloak", ours, self.keycloak.mark, self.keycloak.put_mark)
        if self.broker.keeps_accounts:
            await _check("the broker", ours, self.broker.mark, self.broker.put_mark)
            await self.broker.ensure_roles()
            await self.broker.ensure_public(ACCOUNTS)

    async def recovery(self, session: AsyncSession, client_id: str) -> messages.Recovery | None:
        """Return a device's recovery settings for its package; None if the broker has no accounts for it."""
        public_key = (await row(session)).public_key
        if not self.broker.keeps_accounts or public_key is None:
            return None
        account = ACCOUNTS[zlib.crc32(client_id.encode()) % len(ACCOUNTS)]
        return messages.Recovery(
            port=self.settings.claim_mqtt_port, account=account, password=account, server_key=public_key
        )

    async def ensure_key_pair(self) -> None:
        """Generate the server's key pair, if there is none."""
        async with self.database.transaction() as session:
            ours = await row(session, lock=True)
            if ours.public_key is None:
                pair = crypto.new_key_pair()
                ours.public_key = crypto.public_half(pair)
                ours.private_key = self.vault.encrypt(crypto.private_half(pair))

    async def key_pair(self, session: AsyncSession) -> OKPKey:
        """Return the server's key pair, or raise SecretUnreadableError or ConflictError."""
        ours = await row(session)
        if ours.public_key is None or ours.private_key is None:
            raise ConflictError("there is no key pair for recovery yet")
        return crypto.key_pair(ours.public_key, self.vault.decrypt(ours.private_key))

    async def rekey(self, session: AsyncSession) -> tuple[int, list[str]]:
        """Encrypt the private key, secrets in recorded answers and Wi-Fi networks with the first master key.

        Return their number, and the names of those that no key decrypts.
        """
        done, unreadable = 0, list[str]()
        ours = await row(session, lock=True)
        if ours.private_key is not None:
            try:
                ours.private_key = self.vault.reencrypt(ours.private_key)
                done += 1
            except crypto.SecretUnreadableError:
                unreadable.append("recovery key")
        for kept in await session.scalars(select(AdminRequest).where(AdminRequest.answer.has_key(SEALED))):
            try:
                sealed = self.vault.reencrypt(str(kept.answer[SEALED]).encode())
                await session.delete(kept)  # recorded answers are never changed
                await session.flush()
                session.add(
                    AdminRequest(
                        account=kept.account,
                        request_id=kept.request_id,
                        operation=kept.operation,
                        answer={SEALED: sealed.decode()},
                        answered_at=kept.answered_at,
                    )
                )
                done += 1
            except crypto.SecretUnreadableError:
                await session.delete(kept)  # no key decrypts it
        for layer in await session.scalars(select(ConnectionLayer).where(ConnectionLayer.wifi.is_not(None))):
            try:
                layer.wifi = layer.wifi and self.vault.reencrypt(layer.wifi)
                done += 1
            except crypto.SecretUnreadableError:
                unreadable.append(f"connection layer {layer.number}")
        return done, unreadable


async def row(session: AsyncSession, *, lock: bool = False) -> tables.InstanceRow:
    """Return the one row."""
    query = select(tables.InstanceRow)
    return (await session.scalars(query.with_for_update() if lock else query)).one()


async def _check(
    place: str, ours: str, mark: Callable[[], Awaitable[str | None]], put: Callable[[str], Awaitable[None]]
) -> None:
    found = await mark()
    if found is None:
        await put(ours)
        log.info("instance.marked", place=place, instance=ours)
        found = await mark()
    if found != ours:
        raise OtherInstallationError(
            f"{place} holds the devices of installation {found}, but the database is of {ours}: is "
            "MDM_DATABASE_URL right? Restore the database, or see `another installation` in docs/operations.md",
            place=place,
            found=found,
            database=ours,
        )
