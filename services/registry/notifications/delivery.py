"""Delivers the messages of each rule: in order, at least once, and no rule waits for the receiver of another."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from functools import partial
from typing import Final

import structlog
from sqlalchemy import ColumnElement, and_, or_, select
from sqlalchemy.ext.asyncio import AsyncSession

from services.registry.context import Registry
from services.registry.notifications import senders
from services.registry.notifications.senders import DeliveryError, OutgoingMessage, Senders
from shared.crypto import SecretUnreadableError
from shared.database.tables import NotificationRow, NotificationRule
from shared.errors import UnavailableError
from shared.runtime import metrics
from shared.runtime.periodic import periodic

log = structlog.get_logger()
LOOK_S: Final = 1.0
LEASE: Final = timedelta(seconds=senders.TIMEOUT_S + 40)
"""Longer than an attempt: a replica that dies in one leaves the rule to the others by then."""
GIVE_UP_AFTER: Final = timedelta(days=3)
_FIRST_PAUSE: Final = timedelta(seconds=5)
_LONGEST_PAUSE: Final = timedelta(hours=1)


@dataclass(frozen=True, slots=True)
class ClaimedMessage:
    """The first waiting message of a rule that this replica has until the end of the lease."""

    message: OutgoingMessage
    row: NotificationRow
    url: bytes
    key: bytes | None


def pause(attempts: int) -> timedelta:
    """Return the time until the next attempt after so many."""
    return min(_FIRST_PAUSE * (1 << min(attempts - 1, 20)), _LONGEST_PAUSE)


@dataclass(frozen=True, slots=True)
class NotificationDelivery:
    """Delivers what waits, with one task for each rule at a time."""

    registry: Registry
    _busy: set[int] = field(default_factory=set)

    async def run(self) -> None:
        """Deliver until cancelled."""
        async with senders.opened() as opened, asyncio.TaskGroup() as tasks:
            step = partial(self._start_due, tasks, opened)
            await periodic(step, every_s=LOOK_S, on_outage="notifications.not_delivered")

    async def _start_due(self, tasks: asyncio.TaskGroup, opened: Senders) -> None:
        now = datetime.now(UTC)
        async with self.registry.database.transaction() as session:
            due = await session.scalars(select(NotificationRule.id).where(_is_due(now)))
        for rule_id in due:
            if rule_id not in self._busy:
                self._busy.add(rule_id)
                tasks.create_task(self._deliver(rule_id, opened), name=f"notifications of {rule_id}")

    async def _deliver(self, rule_id: int, opened: Senders) -> None:
        """Deliver the messages of a rule until none waits, or one is refused."""
        try:
            while await self._deliver_one(rule_id, opened):
                pass
        except UnavailableError as error:
            # What was sent is sent again after the lease.
            log.warning("notifications.not_delivered", rule=rule_id, reason=error.message)
        finally:
            self._busy.discard(rule_id)

    async def _deliver_one(self, rule_id: int, opened: Senders) -> bool:
        """Deliver the first waiting message; return whether another may be."""
        async with self.registry.database.transaction() as session:
            claimed = await _claim(session, rule_id, datetime.now(UTC))
        if claimed is None:
            return False
        vault = self.registry.instance.vault
        error = None
        try:
            url = vault.decrypt(claimed.url).get_secret_value()
            key = claimed.key and vault.decrypt(claimed.key).get_secret_value()
            await opened.send(url, key or None, claimed.message)
        except (DeliveryError, SecretUnreadableError) as failure:
            error = failure.message
            log.warning("notification.refused", rule=claimed.message.rule, id=claimed.message.id, reason=error)
        metrics.NOTIFICATIONS.labels("delivered" if error is None else "refused").inc()
        async with self.registry.database.transaction() as session:
            await _record(session, rule_id, claimed.row, error, datetime.now(UTC))
        return error is None


def _is_due(now: datetime) -> ColumnElement[bool]:
    is_free = or_(NotificationRule.busy_until.is_(None), NotificationRule.busy_until < now)
    return and_(is_free, NotificationRule.due_at <= now)


async def _claim(session: AsyncSession, rule_id: int, now: datetime) -> ClaimedMessage | None:
    rule = await session.scalar(
        select(NotificationRule).where(NotificationRule.id == rule_id, _is_due(now)).with_for_update()
    )
    if rule is None:
        return None
    row = await session.scalar(
        select(NotificationRow)
        .where(NotificationRow.rule_id == rule_id, NotificationRow.ended_at.is_(None))
        .order_by(NotificationRow.number)
        .limit(1)
    )
    if row is None:
        rule.due_at = None
        return None
    rule.busy_until = now + LEASE
    row.attempts += 1
    facts = {
        "id": str(row.id),
        "at": row.created_at.isoformat(),
        "rule": rule.name,
        "condition": rule.condition,
        "state": row.state,
        "text": row.message,
        "count": row.count,
        "subjects": row.subjects,
    }
    message = OutgoingMessage(str(row.id), rule.name, row.state, row.message, facts)
    return ClaimedMessage(message, row, rule.url, rule.key)


async def _record(
    session: AsyncSession, rule_id: int, sent: NotificationRow, error: str | None, now: datetime
) -> None:
    """Record the outcome of an attempt; give up a message that nobody has taken for days."""
    rule = await session.get(NotificationRule, rule_id, with_for_update=True)
    row = await session.get(NotificationRow, sent.id)
    if rule is None or row is None:
        return  # it was removed in the meantime
    row.error = error
    is_over = error is None or row.created_at < now - GIVE_UP_AFTER
    if is_over:
        row.ended_at = now
        if error is not None:
            log.error("notification.given_up", rule=rule.name, id=str(row.id), reason=error)
    rule.busy_until = None
    rule.due_at = now if is_over else now + pause(row.attempts)
