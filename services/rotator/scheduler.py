"""The leader's scheduler: at each run of the schedule it queues all devices, once, also for a missed run."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Final

import structlog
from sqlalchemy.ext.asyncio import AsyncSession

from services.rotator import campaign_queries
from services.rotator.context import Rotator
from services.rotator.cron import Schedule
from shared.database.tables import AuditEntry, Device, RotationSchedule
from shared.errors import InvalidInputError, UnavailableError
from shared.protocol import admin, events
from shared.runtime import schedule_rules
from shared.runtime.settings import RotatorSettings
from shared.server.rpc import RequestContext

log = structlog.get_logger()
LONGEST_SLEEP_S: Final = 60.0
"""The system clock may be set in between."""
RETRY_S: Final = 1.0
SHOWN: Final = 5


@dataclass(slots=True)
class Scheduler:
    """The schedule of one leadership: the row has it, and `changed` is the wake-up event for a new one."""

    settings: RotatorSettings
    rotator: Rotator
    changed: asyncio.Event = field(default_factory=asyncio.Event)
    _warned: datetime | None = field(init=False, default=None)
    """The latest run when a warning was logged."""

    async def begin(self) -> None:
        """Continue from the last leader's state."""
        await self._look(datetime.now(UTC))

    async def run(self) -> None:
        """Sleep from run to run until cancelled."""
        while True:
            self.changed.clear()
            try:
                run_at = await self._look(datetime.now(UTC))
            except UnavailableError as error:
                log.warning("rotation.schedule_deferred", reason=error.message)
                await asyncio.sleep(RETRY_S)
                continue
            left_s = LONGEST_SLEEP_S if run_at is None else (run_at - datetime.now(UTC)).total_seconds()
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(min(left_s, LONGEST_SLEEP_S)):
                    await self.changed.wait()

    async def show(self, context: RequestContext, _: admin.Nothing) -> admin.RotationScheduleView:
        """Return the schedule and its next runs."""
        now = datetime.now(UTC)
        return _view(await self._row(context.session, now), now)

    async def change(self, context: RequestContext, request: admin.ScheduleSet) -> admin.RotationScheduleView:
        """Replace the schedule, whatever the setting is."""
        expression = _checked("expression", schedule_rules.cron_expression, request.expression)
        zone = None if request.zone is None else _checked("zone", schedule_rules.time_zone, request.zone)
        return await self._replace(context, "schedule.set", (expression, zone), author=context.account)

    async def clear(self, context: RequestContext, _: admin.Nothing) -> admin.RotationScheduleView:
        """Return to the schedule of the setting."""
        return await self._replace(context, "schedule.clear", self._setting, author=None)

    async def _replace(
        self, context: RequestContext, action: str, wanted: tuple[str, str | None], *, author: str | None
    ) -> admin.RotationScheduleView:
        """Do a run of the old schedule that is due, and let the new one count from now."""
        now = datetime.now(UTC)
        row = await self._row(context.session, now)
        await self._do_due(context.session, row, now)
        expression, zone = wanted
        before = _facts(row)
        _change(row, (expression, zone or row.zone), now)
        row.author = author
        facts = _facts(row)
        if facts != before:
            context.audit(action, "rotation", before=before.to_data(), after=facts.to_data())
            self.rotator.outbox.emit(context.session, events.SCHEDULE_CHANGED, None, facts)
        self.changed.set()
        return _view(row, now)

    async def _look(self, now: datetime) -> datetime | None:
        """Queue all devices if the latest run is not done, and return the next run, if there is one."""
        async with self.rotator.leadership.transaction() as session:
            row = await self._row(session, now)
            await self._do_due(session, row, now)
            schedule = _of(row)
        return None if schedule is None else schedule.upcoming(1, after=now)[0]

    async def _row(self, session: AsyncSession, now: datetime) -> RotationSchedule:
        """Return the schedule in force: an admin's, else the setting's, which counts from its first start."""
        row = await session.get(RotationSchedule, RotationSchedule.ONLY)
        if row is None:
            expression, zone = self._setting
            row = RotationSchedule(expression=expression, zone=zone, since=now)
            session.add(row)
        elif row.author is None:
            _change(row, self._setting, now)
        return row

    async def _do_due(self, session: AsyncSession, row: RotationSchedule, now: datetime) -> None:
        schedule = _of(row)
        if schedule is None:
            return
        latest, last = schedule.latest(now), row.last_fire_at or row.since
        run_at = schedule.due(last, now, timedelta(seconds=self.settings.rotation_grace_s))
        if run_at is not None:
            await self._queue_all(session, run_at)
            row.last_fire_at = run_at
            self.rotator.wake.set()
        elif latest != self._warned and latest > last:
            self._warned = latest
            log.warning("rotation.run_missed", fire_at=latest.isoformat())
        elif latest != self._warned and last > now:
            self._warned = latest
            log.warning("rotation.clock_is_behind", last_fire_at=last.isoformat())

    async def _queue_all(self, session: AsyncSession, run_at: datetime) -> None:
        enabled = await campaign_queries.targets(session, Device.enabled.is_(True))
        queued = await campaign_queries.queue(session, enabled)
        facts = events.ScheduleFacts(fire_at=run_at, queued=len(queued), already=len(enabled) - len(queued))
        session.add(AuditEntry(actor="schedule", action="rotation.start", subject="fleet", after=facts.to_data()))
        self.rotator.outbox.emit(session, events.ROTATION_SCHEDULED, None, facts)
        log.info("rotation.scheduled", **facts.to_data())

    @property
    def _setting(self) -> tuple[str, str]:
        return self.settings.rotation_schedule, self.settings.rotation_time_zone


def _change(row: RotationSchedule, wanted: tuple[str, str], now: datetime) -> None:
    """Change the schedule, which counts from now then; the same one continues."""
    if (row.expression, row.zone) != wanted:
        row.expression, row.zone = wanted
        row.since, row.last_fire_at = now, None


def _of(row: RotationSchedule) -> Schedule | None:
    return Schedule(row.expression, row.zone) if row.expression else None


def _facts(row: RotationSchedule) -> events.ScheduleChangeFacts:
    return events.ScheduleChangeFacts(expression=row.expression, zone=row.zone, author=row.author)


def _view(row: RotationSchedule, now: datetime) -> admin.RotationScheduleView:
    schedule = _of(row)
    return admin.RotationScheduleView.from_row(
        row, next=[] if schedule is None else schedule.upcoming(SHOWN, after=now)
    )


def _checked(name: str, rule: Callable[[str], str], given: str) -> str:
    try:
        return rule(given)
    except ValueError as error:
        raise InvalidInputError(f"{name}: {error}") from None
