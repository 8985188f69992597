"""Messages that belong to a change: written in its transaction, published after the commit.

After a crash between the two, the next drain publishes them, perhaps twice, in their order.
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any, Final, TypeVar
from uuid import uuid4

import structlog
from pydantic import SecretStr
from sqlalchemy import delete, func, select
from sqlalchemy.ext.asyncio import AsyncSession

from shared.crypto import SecretUnreadableError, Vault
from shared.database import outbox_rows
from shared.database.arrays import one_of
from shared.database.engine import Database
from shared.database.outbox_rows import NewEvent, NewMessage
from shared.database.tables import OutboxMessage
from shared.mqtt.connection import Connection
from shared.protocol import messages
from shared.protocol.events import C, EventType, F
from shared.protocol.topics import Topic
from shared.runtime.periodic import periodic

log = structlog.get_logger()

BATCH: Final = 200
SWEEP_S: Final = 1.0
M = TypeVar("M")


class Outbox:
    """The outbox of a service; the vault is only needed for sealed messages."""

    def __init__(self, service: str, vault: Vault | None = None) -> None:
        self.service = service
        self._vault = vault
        # Built once: building a statement takes as long as executing it.
        self._lock = select(func.pg_try_advisory_xact_lock(func.hashtext(f"outbox:{service}")))
        self._waiting = (
            select(OutboxMessage).where(OutboxMessage.service == service).order_by(OutboxMessage.id).limit(BATCH)
        )

    def put(
        self,
        session: AsyncSession,
        topic: Topic[M],
        message: M,
        *,
        expires_at: datetime | None = None,
        sealed: bool = False,
        **names: str,
    ) -> None:
        """Publish `message` once the session's transaction has committed, unless `expires_at` has passed.

        A `sealed` one waits encrypted.
        """
        payload = topic.encode(message)
        if sealed:
            if self._vault is None:
                raise ValueError(f"{topic.template}: an outbox without a vault cannot seal a message")
            payload = self._vault.encrypt(SecretStr(payload.decode()))
        self._add(session, topic, payload, expires_at, names, sealed=sealed)

    def clear(self, session: AsyncSession, topic: Topic[Any], **names: str) -> None:
        """Clear the retained message of a topic once the session's transaction has committed."""
        self._add(session, topic, b"", None, names)

    def _add(
        self,
        session: AsyncSession,
        topic: Topic[Any],
        payload: bytes,
        expires_at: datetime | None,
        names: Mapping[str, str],
        *,
        sealed: bool = False,
    ) -> None:
        name, qos, retain = topic.of(**names), topic.qos, topic.retain
        outbox_rows.add(session, NewMessage(self.service, name, payload, qos, retain, sealed, expires_at))

    def emit(
        self, session: AsyncSession, event: EventType[F, C], client_id: C, facts: F, *, kept: bool = True
    ) -> None:
        """Publish an event, of the device `client_id` or of none, once the session's transaction has committed.

        It is `kept` for a while, to be looked up, unless it is frequent and of little interest.
        """
        message = messages.Event(event_id=uuid4(), at=datetime.now(UTC), client_id=client_id, data=facts.to_data())
        self.put(session, event.topic, message)
        if kept:
            outbox_rows.add(session, NewEvent(message.event_id, message.at, event.name, client_id, message.data))

    async def drain(self, database: Database, connection: Connection) -> None:
        """Publish waiting messages after each commit and every SWEEP_S seconds, until cancelled."""

        async def drain_all() -> None:
            await connection.ready()
            while await self._drain_batch(database, connection):
                pass

        await periodic(drain_all, every_s=SWEEP_S, wake=database.filled, on_outage="outbox.deferred")

    async def _drain_batch(self, database: Database, connection: Connection) -> bool:
        """Publish up to BATCH messages in order; return whether there may be more."""
        async with database.transaction() as session:
            # One drain at a time keeps the order, also among replicas.
            if not await session.scalar(self._lock):
                return False
            waiting = (await session.scalars(self._waiting)).all()
            if not waiting:
                return False
            now = datetime.now(UTC)
            sending = []
            for row in waiting:
                left_s = (row.expires_at - now).total_seconds() if row.expires_at else None
                payload = self._opened(row)
                if payload is not None and (left_s is None or left_s > 0):
                    sending.append(
                        connection.publish(row.topic, payload, qos=row.qos, retain=row.retain, expires_in_s=left_s)
                    )
            for failure in await asyncio.gather(*sending, return_exceptions=True):
                if failure is not None:
                    raise failure
            await session.execute(
                delete(OutboxMessage).where(one_of(OutboxMessage.id, (row.id for row in waiting)))
            )
            return len(waiting) == BATCH

    def _opened(self, row: OutboxMessage) -> bytes | None:
        """Return the payload of a message; None if it is sealed and no key opens it."""
        if not row.sealed:
            return row.payload
        try:
            if self._vault is not None:
                return self._vault.decrypt(row.payload).get_secret_value().encode()
        except SecretUnreadableError:
            pass
        log.warning("outbox.unreadable", topic=row.topic)
        return None
