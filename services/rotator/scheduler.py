"""The leader's scheduler: at each run of the schedule it queues all devices, once, also for a missed run."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Final

import structlog
from sqlalchemy import delete, tuple_
from sqlalchemy.ext.asyncio import AsyncSession

from services.rotator import campaign_queries
from services.rotator.context import Rotator
from services.rotator.cron import Schedule
from shared.database.tables import AuditEntry, Device, RotationSchedule
from shared.errors import UnavailableError
from shared.protocol import admin, events
from shared.runtime.settings import RotatorSettings
from shared.server.rpc import RequestContext

log = structlog.get_logger()
LONGEST_SLEEP_S: Final = 60.0
"""The system clock may be set in between."""
RETRY_S: Final = 1.0
SHOWN: Final = 5


@dataclass(slots=True)
class Scheduler:
    """The schedule of one leadership; `schedule` is None if it is off."""

    settings: RotatorSettings
    rotator: Rotator
    schedule: Schedule | None = field(init=False)
    _seen: datetime | None = field(init=False, default=None)

    def __post_init__(self) -> None:
        expression, zone = self.settings.rotation_schedule, self.settings.rotation_time_zone
        self.schedule = Schedule(expression, zone) if expression else None

    async def begin(self) -> None:
        """Continue from the last leader's state; a new or changed schedule counts from now."""
        wanted = (self.settings.rotation_schedule, self.settings.rotation_time_zone)
        async with self.rotator.leadership.transaction() as session:
            known = tuple_(RotationSchedule.expression, RotationSchedule.zone)
            await session.execute(delete(RotationSchedule).where(known != wanted))
        if self.schedule is not None:
            await self._look(self.schedule, datetime.now(UTC))

    async def run(self) -> None:
        """Sleep from run to run until cancelled."""
        while self.schedule is not None:
            now = datetime.now(UTC)
            try:
                await self._look(self.schedule, now)
            except UnavailableError as error:
                log.warning("rotation.schedule_deferred", reason=error.message)
                await asyncio.sleep(RETRY_S)
                continue
            [run_at] = self.schedule.upcoming(1, after=now)
            left_s = (run_at - datetime.now(UTC)).total_seconds()
            await asyncio.sleep(min(left_s, LONGEST_SLEEP_S))

    async def show(self, context: RequestContext, _: admin.Nothing) -> admin.RotationScheduleView:
        """Return the schedule and its next runs."""
        row = await context.session.get(RotationSchedule, RotationSchedule.ONLY)
        return admin.RotationScheduleView(
            expression=self.settings.rotation_schedule,
            zone=self.settings.rotation_time_zone,
            last_fire_at=row.last_fire_at if row else None,
            next=self.schedule.upcoming(SHOWN, after=datetime.now(UTC)) if self.schedule else [],
        )

    async def _look(self, schedule: Schedule, now: datetime) -> None:
        """Queue all devices if the latest run is not done; the database is queried once for each run."""
        latest = schedule.latest(now)
        if latest == self._seen:
            return
        async with self.rotator.leadership.transaction() as session:
            row = await session.get(RotationSchedule, RotationSchedule.ONLY)
            if row is None:
                row = RotationSchedule(expression=schedule.expression, zone=schedule.zone, since=now)
                session.add(row)
            last = row.last_fire_at or row.since
            run_at = schedule.due(last, now, timedelta(seconds=self.settings.rotation_grace_s))
            if run_at is not None:
                await self._queue_all(session, run_at)
                row.last_fire_at = run_at
            elif latest > last:
                log.warning("rotation.run_missed", fire_at=latest.isoformat())
            elif last > now:
                log.warning("rotation.clock_is_behind", last_fire_at=last.isoformat())
        self._seen = latest
        if run_at is not None:
            self.rotator.wake.set()

    async def _queue_all(self, session: AsyncSession, run_at: datetime) -> None:
        enabled = await campaign_queries.targets(session, Device.enabled.is_(True))
        queued = await campaign_queries.queue(session, enabled)
        facts = events.ScheduleFacts(fire_at=run_at, queued=len(queued), already=len(enabled) - len(queued))
        session.add(AuditEntry(actor="schedule", action="rotation.start", subject="fleet", after=facts.to_data()))
        self.rotator.outbox.emit(session, events.ROTATION_SCHEDULED, None, facts)
        log.info("rotation.scheduled", **facts.to_data())
