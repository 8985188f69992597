"""Presence: devices' statuses."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import NamedTuple

from sqlalchemy.ext.asyncio import AsyncSession

from services.registry import batch_queries
from services.registry.context import Registry
from shared.database import device_refs, presences
from shared.database.presences import Connected
from shared.protocol import events, messages, topics
from shared.runtime.microbatch import MicroBatcher


class ReceivedStatus(NamedTuple):
    """A device's status, and when it was received; a `retained` one may be old."""

    client_id: str
    status: messages.Status
    received_at: datetime
    retained: bool = False


@dataclass(frozen=True, slots=True)
class Presences:
    """Stores which devices are online, asleep or offline, since when, and their status."""

    registry: Registry
    greet: Callable[[AsyncSession, Sequence[str]], Awaitable[None]]
    """Sends, in the same transaction, the waiting messages of devices that are online now."""
    statuses: MicroBatcher[ReceivedStatus, bool] = field(default_factory=MicroBatcher)

    async def record(self, received: ReceivedStatus) -> None:
        """Store a device's status; emit an event when it connects or disconnects."""
        client_id, status, received_at, retained = received
        if status.online and status.boot is not None and not retained:
            # Not when it is stored: the broker's log does not wait for the database.
            self.registry.clashes.on_boot(client_id, status.boot, received_at)
        if not await self.statuses.submit(received):
            raise device_refs.unknown(client_id)

    async def run(self) -> None:
        """Store statuses in batches, until cancelled."""
        await self.statuses.run(self._store)

    async def _store(self, batch: Sequence[ReceivedStatus]) -> Sequence[bool]:
        """Store all in order, and send waiting messages to online devices; return which devices exist."""
        async with self.registry.database.transaction() as session:
            rows = await batch_queries.presences(session, [it.client_id for it in batch])
            changed: dict[int, tuple[Connected, messages.Status | None]] = {}
            for received, presence in zip(batch, rows, strict=True):
                if presence is None:
                    continue
                _, last = changed.get(presence.device_id, (presence, None))
                if received.status.recorded and not received.retained:
                    await self._take_back(session, received.client_id, presence, last)
                elif self._record(session, received, presence):
                    changed[presence.device_id] = presence, received.status if presence.online else last
            await batch_queries.store(session, changed.values())
            online = [it.client_id for it in batch if it.status.online]
            if online:
                await self.greet(session, online)
            return [presence is not None for presence in rows]

    def _record(self, session: AsyncSession, received: ReceivedStatus, presence: Connected) -> bool:
        """Change a presence by a status; return whether it counts."""
        client_id, status, received_at, retained = received
        if retained and presence.online == status.online:
            return False  # its time is not known: a restarted broker still has statuses from before
        # Not what services publish for devices that they refuse: `offline`, also of those that never connected.
        is_seen = status.online or presence.online or bool(status.asleep)
        if is_seen and (not retained or presence.last_seen_at is None):
            # Not the current time: the broker may have dropped the device since.
            presence.last_seen_at = received_at
        if status.online or status.wake_interval_s is not None:
            presence.wake_interval_s = status.wake_interval_s
        if status.online:
            self._record_online(session, received, presence)
        elif presence.online or status.asleep:
            before = presences.state(presence)
            presences.leave(presence, received_at, asleep=bool(status.asleep))
            if presences.state(presence) != before:
                presences.emit_left(self.registry.outbox, session, client_id, presence.asleep_until)
        return True

    async def _take_back(
        self, session: AsyncSession, client_id: str, presence: Connected, last: messages.Status | None
    ) -> None:
        """Restore the retained status of a device that was back before our own `offline` took its place."""
        if not presence.online:
            return
        last = last or await batch_queries.status(session, presence.device_id)
        if last is not None:
            self.registry.outbox.put(session, topics.STATUS, last, client_id=client_id)

    def _record_online(self, session: AsyncSession, received: ReceivedStatus, presence: Connected) -> None:
        status = received.status
        has_restarted = status.boot is not None and status.boot != presence.boot
        if not presence.online:
            facts = events.OnlineFacts(reset_reason=status.reset_reason if has_restarted else None)
            # A wake-up is routine, and may come every minute.
            is_routine = presence.asleep_until is not None
            self.registry.outbox.emit(
                session, events.DEVICE_ONLINE, received.client_id, facts, kept=not is_routine
            )
        if status.boot is None or (has_restarted and received.retained):
            presence.booted_at = None
        elif has_restarted:
            presence.booted_at = received.received_at
        presence.online, presence.asleep_until, presence.boot = True, None, status.boot
