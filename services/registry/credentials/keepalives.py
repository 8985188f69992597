"""Devices whose loss the broker does not notice, as they connect with a keepalive of 0 or of many hours.

The broker cannot set another one without locking such devices out: by `max_keepalive` Mosquitto refuses those that
speak MQTT 3.1.1 (ADR 0019). So their connections are ended now and then; a device that is still there reconnects.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from functools import partial
from typing import Final

import structlog
from sqlalchemy.ext.asyncio import AsyncSession

from services.registry import queries
from services.registry.context import Registry
from services.registry.credentials.service import CredentialService
from shared.database import device_refs, engine
from shared.database.tables import Device, DeviceFlaw, Presence
from shared.errors import NotFoundError
from shared.protocol.flaws import Flaw
from shared.runtime.periodic import periodic

log = structlog.get_logger()
LONGEST_S: Final = 3600
RENEWAL: Final = timedelta(hours=2)
_TOPIC: Final = "CONNECT"
_FLAW: Final = Flaw("keepalive", f"must be 1 to {LONGEST_S} s; the loss of the device is noticed after hours only")
_AT_ONCE: Final = 50
_LOOK_S: Final = 10.0


def flaws_of(keepalive_s: int) -> list[Flaw]:
    """Return what is wrong with a keepalive."""
    return [] if 1 <= keepalive_s <= LONGEST_S else [_FLAW]


@dataclass(slots=True)
class Keepalives:
    """The keepalives of new connections, by client id, until they are stored as flaws."""

    registry: Registry
    _seen: dict[str, int] = field(default_factory=dict)

    def note(self, client_id: str, keepalive_s: int) -> None:
        """Note the keepalive with which a device has connected."""
        self._seen[client_id] = keepalive_s

    async def store(self) -> None:
        """Store what is wrong with the noted ones."""
        while self._seen:
            client_id, keepalive_s = next(iter(self._seen.items()))
            await self.registry.flaws.set(client_id, _TOPIC, flaws_of(keepalive_s))
            if self._seen[client_id] == keepalive_s:
                del self._seen[client_id]


async def run(registry: Registry) -> None:
    """Renew connections that are due, until cancelled."""
    await periodic(partial(renew, registry), every_s=_LOOK_S, on_outage="keepalives.deferred")


async def renew(registry: Registry) -> None:
    """End connections whose loss the broker does not notice, and that are older than RENEWAL."""
    before = datetime.now(UTC) - RENEWAL
    async with registry.database.transaction() as session:
        due = await _due(session, before)
    credentials = CredentialService(registry)
    for client_id in due:
        async with registry.database.transaction() as session:
            await engine.lock_identity(session, client_id)
            try:
                device, _, presence = await queries.device(session, client_id, lock=True)
            except NotFoundError:
                continue
            # Another replica may have done so since, and the device may be back.
            is_old = presence.last_seen_at is not None and presence.last_seen_at < before
            if device.enabled and presence.online and is_old and device.rotation_state != "PENDING":
                log.info("device.connection_renewed", client_id=client_id)
                await credentials.force_reconnect(session, device, presence, client_id)


async def _due(session: AsyncSession, before: datetime) -> list[str]:
    query = (
        device_refs.owned(Presence)
        .join(DeviceFlaw, DeviceFlaw.device_id == Device.id)
        .where(DeviceFlaw.topic == _TOPIC, Presence.online, Presence.last_seen_at < before)
        .where(Device.enabled, Device.lifecycle == "ACTIVE", Device.rotation_state != "PENDING")
        .order_by(Presence.last_seen_at)
        .limit(_AT_ONCE)
    )
    return [client_id for _, client_id in await device_refs.with_client_ids(session, query)]
