"""Observes the broker by Mosquitto's `$SYS` topics: its start, refused logins, and sessions that are taken over.

A broker that restarts has closed all connections without wills, and may have returned with older accounts. Both
are detected here: devices without a message since are marked offline, and refused devices are compared.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Final

import structlog

from services.registry import clashes
from services.registry.context import Registry
from services.registry.credentials import queries as credential_queries
from services.registry.credentials.keepalives import Keepalives
from services.registry.credentials.service import emit_offline
from shared.database import device_refs
from shared.errors import UnavailableError
from shared.mqtt.connection import Delivery, Route
from shared.protocol import events, topics
from shared.runtime.periodic import periodic

log = structlog.get_logger()
GRACE: Final = timedelta(minutes=3)
"""Time for devices to reconnect after the broker's start."""
PATIENCE: Final = timedelta(seconds=30)
"""Time for a device that is refused with one secret to log in with its other one."""
_FLUSH_S: Final = 1.0
_SETTLES: Final = timedelta(seconds=1)
_OWN_TRY: Final = timedelta(seconds=5)
# Whole lines, with or without a timestamp: a client may choose any id, also one with such words in it.
_LINE: Final = rb"(?:\S+: )?Client (iotdevice-[a-z0-9_-]+) %s\.?"
_REFUSED: Final = re.compile(_LINE % rb"disconnected, not authori[sz]ed")
_DROPPED: Final = re.compile(_LINE % rb"been disconnected by administrative action")
"""Its password was changed, or its account disabled; no will is published in that case."""
_CONNECTED: Final = re.compile(
    rb"(?:\S+: )?New client connected from (?P<address>\S+):\d+ as (?P<name>iotdevice-[a-z0-9_-]+)"
    rb" \(p\d, c\d, k(?P<keepalive>\d+), u'(?P=name)'\)\."
)
_TAKEN_OVER: Final = re.compile(_LINE % rb"already connected, closing old connection")
"""Followed by the line of the connection that has the session now."""
_UPTIME: Final = re.compile(rb"(\d+) seconds")


@dataclass(slots=True)
class BrokerWatch:
    """Receives the broker's notices, and stores their consequences."""

    registry: Registry
    _dropped_at: dict[str, datetime] = field(default_factory=dict)
    _taken_over: set[str] = field(default_factory=set)
    _keepalives: Keepalives = field(init=False)
    _uptime: timedelta = timedelta(0)
    _swept: datetime | None = None

    def __post_init__(self) -> None:
        self._keepalives = Keepalives(self.registry)

    def routes(self) -> list[Route]:
        """Return the routes of the broker's own topics; each replica receives all of them."""
        return [
            Route(topics.BROKER_UPTIME, self.on_uptime),
            Route(topics.BROKER_NOTICES, self.on_log),
            Route(topics.BROKER_ERRORS, self.on_log),
        ]

    async def on_uptime(self, delivery: Delivery) -> None:
        """Derive when the broker was started."""
        found = _UPTIME.fullmatch(delivery.payload)
        if found is None:
            return
        uptime = timedelta(seconds=int(found[1]))
        started_at, known = datetime.now(UTC) - uptime, self.registry.broker_started_at
        if known is not None and delivery.retained:
            # The connection was lost, and the broker may have returned with older accounts.
            self.registry.compare_soon()
        if known is not None and uptime >= self._uptime:
            # Published periodically, and a retained value is older: the earliest time is the most accurate.
            self.registry.broker_started_at = min(known, started_at)
        else:
            self.registry.broker_started_at = started_at
            log.info("broker.started", at=started_at.isoformat())
        self._uptime = uptime

    async def on_log(self, delivery: Delivery) -> None:
        """Record which devices the broker refuses, which it drops and does not connect again, and takeovers."""
        taken_over = _TAKEN_OVER.fullmatch(delivery.payload)
        if taken_over is not None:
            self._taken_over.add(taken_over[1].decode())
        connected = _CONNECTED.fullmatch(delivery.payload)
        if connected is not None:
            self._on_connected(
                connected["name"].decode(),
                connected["address"].decode(errors="replace"),
                keepalive_s=int(connected["keepalive"]),
            )
        for pattern, noted in ((_REFUSED, self.registry.refused_at), (_DROPPED, self._dropped_at)):
            found = pattern.fullmatch(delivery.payload)
            client_id = "" if found is None else found[1].decode(errors="replace")
            if device_refs.is_client_id(client_id) and not self._is_own_attempt(client_id):
                noted[client_id] = datetime.now(UTC)

    def _on_connected(self, client_id: str, address: str, *, keepalive_s: int) -> None:
        is_takeover = client_id in self._taken_over
        self._taken_over.discard(client_id)
        if self._is_own_attempt(client_id):
            return
        self._dropped_at.pop(client_id, None)
        self._keepalives.note(client_id, keepalive_s)
        if is_takeover:
            self.registry.clashes.on_takeover(client_id, address, datetime.now(UTC))

    def _is_own_attempt(self, client_id: str) -> bool:
        """Return whether the registry itself has just tried to log in as a device (CredentialService.accepts)."""
        tried_at = self.registry.tried_at.get(client_id)
        return tried_at is not None and datetime.now(UTC) < tried_at + _OWN_TRY

    async def run(self) -> None:
        """Store refusals in batches, and devices that a restarted broker has not seen again, until cancelled."""
        await periodic(self._store, every_s=_FLUSH_S, on_outage="broker.watch_deferred")

    async def _store(self) -> None:
        self._forget_attempts()
        await self.mark_dropped()
        await self._store_refusals()
        await self.mark_clashed()
        await self._keepalives.store()
        await self.mark_silent()

    async def mark_dropped(self) -> None:
        """Mark devices offline that were dropped and have not reconnected.

        Not at once: the broker's log may arrive after the status of the next connection, but in its own order.
        """
        before = datetime.now(UTC) - _SETTLES
        dropped = {client_id: at for client_id, at in self._dropped_at.items() if at < before}
        if not dropped:
            return
        async with self.registry.database.transaction() as session:
            for client_id, asleep_until in await credential_queries.record_dropped(session, dropped):
                emit_offline(self.registry.outbox, session, client_id, asleep_until)
        for client_id, at in dropped.items():
            if self._dropped_at.get(client_id) == at:
                del self._dropped_at[client_id]

    async def _store_refusals(self) -> None:
        noted = dict(self.registry.refused_at)
        self.registry.refused_at.clear()
        if not noted:
            return
        try:
            async with self.registry.database.transaction() as session:
                fresh = await credential_queries.record_refusals(session, noted)
                for client_id in fresh:
                    log.warning("device.refused", client_id=client_id)
                    self.registry.outbox.emit(session, events.DEVICE_REFUSED, client_id, events.NoFacts())
            # A transaction of its own: others lock a device's row first. Later: it may log in with its other
            # secret.
            async with self.registry.database.transaction() as session:
                await credential_queries.verify_at(session, fresh, datetime.now(UTC) + PATIENCE)
        except UnavailableError:
            self.registry.refused_at = noted | self.registry.refused_at
            raise

    async def mark_clashed(self) -> None:
        """Record which identities two boards use, and tell those for which this begins."""
        clashing = self.registry.clashes
        seen_at = dict(clashing.seen_at)
        if not seen_at:
            return
        async with self.registry.database.transaction() as session:
            fresh = await credential_queries.record_clashes(
                session, seen_at, window=clashes.WINDOW, is_numbered=clashing.is_numbered
            )
            for client_id in fresh:
                log.warning("device.clashed", client_id=client_id)
                self.registry.outbox.emit(session, events.DEVICE_CLASHED, client_id, events.NoFacts())
        for client_id, at in seen_at.items():
            if clashing.seen_at.get(client_id) == at:
                del clashing.seen_at[client_id]

    async def mark_silent(self) -> None:
        """Mark devices offline that have not reconnected some time after the broker's start."""
        since = self.registry.broker_started_at
        if since is None or since == self._swept or datetime.now(UTC) < since + GRACE:
            return
        async with self.registry.database.transaction() as session:
            for client_id, asleep_until in await credential_queries.mark_silent(session, since=since):
                emit_offline(self.registry.outbox, session, client_id, asleep_until)
        self._swept = since

    def _forget_attempts(self) -> None:
        now = datetime.now(UTC)
        for client_id in [it for it, at in self.registry.tried_at.items() if at + _OWN_TRY < now]:
            del self.registry.tried_at[client_id]
