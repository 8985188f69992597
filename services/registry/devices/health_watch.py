"""Emits an event when the health of a device, or what is wrong with it, changes."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime
from functools import cache
from typing import Any, Final, NamedTuple

import structlog
from sqlalchemy import DateTime, Select, bindparam, func, or_, select
from sqlalchemy.dialects.postgresql import insert
from sqlalchemy.ext.asyncio import AsyncSession

from services.registry import health
from services.registry.context import Registry
from shared.database import device_refs
from shared.database.tables import Device, DeviceHealth, DeviceModel
from shared.protocol import admin, events
from shared.runtime.periodic import SCAN_PAUSE, periodic

log = structlog.get_logger()
LOOK_S: Final = 5.0
_BATCH: Final = 500
_LOCK: Final = func.pg_try_advisory_xact_lock(func.hashtext("mdm:health"))


class HealthChange(NamedTuple):
    """A device whose health differs from the one that was last announced; None: none was."""

    device_id: int
    code: str
    key: str
    health: admin.Health
    reasons: list[str]
    before: admin.Health | None


@dataclass(frozen=True, slots=True)
class HealthWatch:
    """Compares the health of all devices with the one that was last announced."""

    registry: Registry

    async def run(self) -> None:
        """Look periodically, until cancelled; the more devices there are, the more rarely."""
        await periodic(self.look, every_s=LOOK_S, pause=SCAN_PAUSE, on_outage="health.deferred")

    async def look(self) -> None:
        """Announce all changes; of several replicas, one does."""
        while await self._announce_some():
            pass

    async def _announce_some(self) -> bool:
        async with self.registry.database.transaction() as session:
            if not await session.scalar(select(_LOCK)):
                return False
            changes = await self._changes(session)
            if not changes:
                return False
            row = insert(DeviceHealth)
            await session.execute(
                row.on_conflict_do_update(
                    index_elements=[DeviceHealth.device_id],
                    set_={"health": row.excluded.health, "reasons": row.excluded.reasons, "since": func.now()},
                ),
                [{"device_id": it.device_id, "health": it.health, "reasons": it.reasons} for it in changes],
            )
            for it in changes:
                # That a new device was not seen yet is no news.
                if it.before is not None or it.health != "never_seen":
                    client_id = device_refs.client_id(it.code, it.key)
                    facts = events.HealthFacts(health=it.health, reasons=it.reasons, before=it.before)
                    self.registry.outbox.emit(session, events.DEVICE_HEALTH_CHANGED, client_id, facts)
            return len(changes) == _BATCH

    async def _changes(self, session: AsyncSession) -> list[HealthChange]:
        rows = await session.execute(_changes(self.registry.thresholds), {"now": datetime.now(UTC)})
        return [HealthChange(*row) for row in rows]


@cache
def _changes(thresholds: health.HealthThresholds) -> Select[Any]:
    """Return the query for some devices whose health differs from the one that was last announced."""
    states = health.states(bindparam("now", type_=DateTime(timezone=True)), thresholds)
    return (
        select(
            Device.id,
            DeviceModel.code,
            Device.key,
            states.c.health,
            states.c.reasons,
            DeviceHealth.health,
        )
        .join(states, states.c.device_id == Device.id)
        .join(DeviceModel, DeviceModel.id == Device.model_id)
        .outerjoin(DeviceHealth, DeviceHealth.device_id == Device.id)
        .where(
            or_(
                DeviceHealth.health.is_distinct_from(states.c.health),
                DeviceHealth.reasons.is_distinct_from(states.c.reasons),
            )
        )
        .order_by(Device.id)
        .limit(_BATCH)
        # One that is being removed would be gone when its row is written.
        .with_for_update(of=Device, read=True, key_share=True, skip_locked=True)
    )
