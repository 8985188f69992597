"""What devices report about their connection profiles, and how they are sent another one."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Final

import structlog
from pydantic import SecretStr
from sqlalchemy.ext.asyncio import AsyncSession

from services.registry import connection_rules
from services.registry.batch_queries import ConnectedDevice
from services.registry.connection_rules import ConnectionLayers, StoredConnection, WantedProfile
from services.registry.connections import layers as connection_layers
from services.registry.connections import queries as connection_queries
from services.registry.connections.queries import Reachable
from services.registry.context import Registry
from shared import crypto
from shared.crypto import SecretUnreadableError
from shared.errors import UnavailableError
from shared.mqtt.connection import Connection
from shared.protocol import events, messages, topics

log = structlog.get_logger()
EXPIRY_S: Final = 60.0
PER_S: Final = 50.0
"""How many online devices are sent a profile per second after a change: not all shall reconnect at once."""
PUSH_EVERY_S: Final = 3600.0
_PAGE: Final = 500


@dataclass(slots=True)
class Connections:
    """Stores devices' reports, and sends each device the profile that is wanted, if it is another one."""

    registry: Registry
    connection: Connection
    _layers: ConnectionLayers = field(default_factory=lambda: ConnectionLayers([], {}))

    async def on_report(self, client_id: str, state: messages.ConnectionState, device: ConnectedDevice) -> None:
        """Store a report that changes something; send the wanted profile if it is another one and due."""
        layers = await self._in_force(device.revision)
        wanted, now = layers.wanted(device.device_id, device.tags), datetime.now(UTC)
        if state.in_use == wanted.connection_id and device.report == connection_rules.report_text(state):
            return
        async with self.registry.database.transaction() as session:
            found = await connection_queries.lock_reachable(session, device.device_id)
            if found is None:
                return
            stored = connection_rules.reported(found.stored, state, now)
            if not found.stored.is_reported(state):
                await connection_queries.store(session, found.device_id, stored)
                self._emit(session, client_id, found.stored, stored)
            found = found._replace(stored=stored)
            offer = await self._offer(session, found, layers.wanted(found.device_id, found.tags), now)
        await self._send(found, offer)

    async def push(self) -> None:
        """Send the wanted profile to each online device that has another one and may be sent it, PER_S at most.

        An outage ends it: the other devices are sent theirs when they ask.
        """
        try:
            await self.connection.ready()
            await self._push_all()
        except UnavailableError as error:
            log.warning("connection.push_ended", reason=error.message)

    async def _push_all(self) -> None:
        after = 0
        while True:
            async with self.registry.database.transaction() as session:
                layers = await connection_queries.in_force(session, self.registry.connection_base)
                page = await connection_queries.online(session, after=after, limit=_PAGE)
            for device in page:
                wanted, now = layers.wanted(device.device_id, device.tags), datetime.now(UTC)
                if _is_due(device.stored, device.stored.in_use, wanted, now):
                    await self._push_one(device.device_id, layers)
                    await asyncio.sleep(1 / PER_S)
            if len(page) < _PAGE:
                return
            after = page[-1].device_id

    async def _push_one(self, device_id: int, layers: ConnectionLayers) -> None:
        async with self.registry.database.transaction() as session:
            found = await connection_queries.lock_reachable(session, device_id)
            if found is None:
                return
            wanted = layers.wanted(found.device_id, found.tags)
            offer = await self._offer(session, found, wanted, datetime.now(UTC))
        await self._send(found, offer)

    async def _offer(
        self, session: AsyncSession, device: Reachable, wanted: WantedProfile, now: datetime
    ) -> messages.ConnectionOffer | None:
        """Return the message with the wanted profile, sealed if the device has a key; None if none is due."""
        if not _is_due(device.stored, device.stored.in_use, wanted, now):
            return None
        try:
            profile = connection_layers.opened(self.registry.instance.vault, wanted)
        except SecretUnreadableError as error:
            log.error("connection.unreadable", client_id=device.client_id, reason=error.message)  # noqa: TRY400
            return None
        await connection_queries.intern(session, wanted)
        content: dict[str, object] = {"profile": profile}
        if device.public_key is not None:
            text = SecretStr(profile.model_dump_json(exclude_none=True))
            content = {"jwe": crypto.seal(text, device.public_key)}
        return messages.ConnectionOffer.model_validate(
            {"connection_id": wanted.connection_id, "trial_seconds": wanted.trial_seconds, **content}
        )

    async def _send(self, device: Reachable, offer: messages.ConnectionOffer | None) -> None:
        """Send it, and then store that it was sent: if that fails, the device is sent it twice, which is harmless.

        It does not go through the outbox, where a password would be stored in plain text.
        """
        if offer is None:
            return
        await self.connection.send(topics.CONNECTION, offer, expires_in_s=EXPIRY_S, client_id=device.client_id)
        async with self.registry.database.transaction() as session:
            await connection_queries.mark_sent(session, device.device_id, offer.connection_id, datetime.now(UTC))
        log.info("connection.sent", client_id=device.client_id, connection_id=offer.connection_id)

    async def _in_force(self, revision: int | None) -> ConnectionLayers:
        """Return the layers in force, read again if another revision is in force."""
        if revision is None or self._layers.revision != revision:
            async with self.registry.database.transaction() as session:
                self._layers = await connection_queries.in_force(session, self.registry.connection_base)
        return self._layers

    def _emit(
        self, session: AsyncSession, client_id: str, before: StoredConnection, after: StoredConnection
    ) -> None:
        outbox = self.registry.outbox
        if connection_rules.has_applied(before, after):
            facts = events.ConnectionFacts(connection_id=after.in_use)
            outbox.emit(session, events.CONNECTION_APPLIED, client_id, facts)
            log.info("connection.applied", client_id=client_id, connection_id=after.in_use)
        if connection_rules.has_refused(before, after):
            refused = events.ConnectionRefusalFacts(
                connection_id=after.refused_id, outcome=after.refused_outcome, reason=after.refused_reason
            )
            outbox.emit(session, events.CONNECTION_REVERTED, client_id, refused)
            log.warning("connection.reverted", client_id=client_id, **refused.to_data())
        if connection_rules.has_fallen_back(before, after):
            facts = events.ConnectionFacts(connection_id=after.in_use)
            outbox.emit(session, events.CONNECTION_FELL_BACK, client_id, facts)
            log.warning("connection.fell_back", client_id=client_id, connection_id=after.in_use, first=after.first)


def _is_due(stored: StoredConnection, in_use: str | None, wanted: WantedProfile, now: datetime) -> bool:
    return in_use != wanted.connection_id and stored.may_be_sent(wanted.connection_id, now)
