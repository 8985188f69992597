"""Devices that were asleep and are not back in time: from then on they are offline."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Final

from sqlalchemy import ColumnElement, func, select, update
from sqlalchemy.ext.asyncio import AsyncSession

from services.registry.context import Registry
from shared.database import device_refs, presences
from shared.database.tables import Device, DeviceModel, Presence
from shared.runtime.periodic import periodic

_LOOK_S: Final = 1.0


@dataclass(slots=True)
class Sleepers:
    """Finds the overdue devices."""

    registry: Registry
    _listening_since: datetime | None = None

    async def run(self) -> None:
        """Look periodically, until cancelled."""
        await periodic(self.look, every_s=_LOOK_S, on_outage="presence.deferred")

    async def look(self) -> None:
        """Mark overdue devices offline.

        A device may have been awake while nobody could hear it: then it has its whole time again.
        """
        since = self.registry.identities.connection.up_since
        if since is None:
            return
        async with self.registry.database.transaction() as session:
            if since != self._listening_since:
                await _wait_again(session, since)
            for client_id in await _wake_up_missed(session, datetime.now(UTC)):
                presences.emit_left(self.registry.outbox, session, client_id, None)
        self._listening_since = since


async def _wait_again(session: AsyncSession, since: datetime) -> None:
    """Give all sleeping devices their whole time from `since` on."""
    until = func.greatest(Presence.asleep_until, presences.asleep_until(since))
    await session.execute(
        update(Presence)
        .where(Presence.device_id.in_(_locked(presences.ASLEEP)))
        .values(asleep_until=until)
        .execution_options(synchronize_session=False)
    )


async def _wake_up_missed(session: AsyncSession, now: datetime) -> list[str]:
    """Mark the devices offline that are overdue at `now`, and return them."""
    rows = await session.execute(
        update(Presence)
        .where(
            Presence.device_id.in_(_locked(Presence.asleep_until < now)),
            Device.id == Presence.device_id,
            DeviceModel.id == Device.model_id,
        )
        .values(asleep_until=None)
        .returning(DeviceModel.code, Device.key)
        .execution_options(synchronize_session=False)
    )
    return [device_refs.client_id(code, key) for code, key in rows]


def _locked(condition: ColumnElement[bool]) -> ColumnElement[int]:
    """Return the ids of rows with this condition; those that a status is just changing are left out."""
    query = select(Presence.device_id).where(condition).with_for_update(skip_locked=True)
    return query.scalar_subquery()
