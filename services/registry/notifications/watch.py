"""Evaluates the rules of notifications, and writes their messages in the same transaction."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Final
from uuid import uuid4

from sqlalchemy import and_, delete, select
from sqlalchemy.dialects.postgresql import insert
from sqlalchemy.ext.asyncio import AsyncSession

from services.registry.context import Registry
from services.registry.notifications import hysteresis
from services.registry.notifications.conditions import CONDITIONS, Subjects
from services.registry.notifications.hysteresis import Tracked
from shared.database.arrays import one_of
from shared.database.tables import NotificationRow, NotificationRule, NotificationSubject
from shared.protocol import admin
from shared.runtime.periodic import periodic

LOOK_S: Final = 10.0
MOST_NAMED: Final = 50
"""Subjects that a message names; it counts all."""
_MOST_IN_TEXT: Final = 10
_BATCH: Final = 5000
_SUBJECTS: Final = NotificationSubject


@dataclass(frozen=True, slots=True)
class NotificationWatch:
    """Finds what there is to notify of."""

    registry: Registry

    async def run(self) -> None:
        """Look periodically, until cancelled."""
        await periodic(self.look, every_s=LOOK_S, on_outage="notifications.deferred")

    async def look(self) -> None:
        """Evaluate each rule, in a transaction of its own."""
        async with self.registry.database.transaction() as session:
            rules = list(await session.scalars(select(NotificationRule.id).order_by(NotificationRule.id)))
        for rule_id in rules:
            async with self.registry.database.transaction() as session:
                rule = await session.get(NotificationRule, rule_id, with_for_update=True)
                if rule is not None:
                    await self._judge(session, rule)

    async def _judge(self, session: AsyncSession, rule: NotificationRule) -> None:
        now = datetime.now(UTC)
        holding = await self._holding(session, rule, now)
        if holding is None:
            return
        # Columns, and no objects: there may be one for each device.
        columns = (_SUBJECTS.since, _SUBJECTS.fired, _SUBJECTS.over_since)
        rows = await session.execute(select(_SUBJECTS.subject, *columns).where(_SUBJECTS.rule_id == rule.id))
        tracked = {subject: Tracked(since, fired, over_since) for subject, since, fired, over_since in rows}
        verdict = hysteresis.judge(tracked, holding, now, hold=timedelta(seconds=rule.hold_s))
        await _track(session, rule.id, verdict.changes)
        if verdict.firing:
            put(session, rule, "firing", {name: holding[name] for name in verdict.firing}, now)
        if verdict.resolved:
            over = f": no longer {rule.condition.replace('_', ' ')}"
            put(session, rule, "resolved", {name: name + over for name in verdict.resolved}, now)

    async def _holding(self, session: AsyncSession, rule: NotificationRule, now: datetime) -> Subjects | None:
        """Return what a rule's condition holds for, or None if that is not known yet."""
        if rule.condition == "certificate_ends":
            return self.registry.certificates
        return await CONDITIONS[rule.condition](session, rule, now)


async def _track(session: AsyncSession, rule_id: int, changes: Mapping[str, Tracked | None]) -> None:
    over = [subject for subject, state in changes.items() if state is None]
    for start in range(0, len(over), _BATCH):
        names = over[start : start + _BATCH]
        mine = and_(_SUBJECTS.rule_id == rule_id, one_of(_SUBJECTS.subject, names))
        await session.execute(delete(_SUBJECTS).where(mine).execution_options(synchronize_session=False))
    rows = [
        {"rule_id": rule_id, "subject": subject, "since": it.since, "fired": it.fired, "over_since": it.over_since}
        for subject, it in changes.items()
        if it is not None
    ]
    if rows:
        new = insert(_SUBJECTS)
        changed = {name: getattr(new.excluded, name) for name in ("since", "fired", "over_since")}
        await session.execute(
            new.on_conflict_do_update(index_elements=[_SUBJECTS.rule_id, _SUBJECTS.subject], set_=changed), rows
        )


def put(
    session: AsyncSession,
    rule: NotificationRule,
    state: admin.NotificationState,
    subjects: Mapping[str, str],
    now: datetime,
) -> NotificationRow:
    """Write a message of a locked rule, which is delivered once this transaction has committed."""
    named = [{"subject": name, "text": text} for name, text in list(subjects.items())[:MOST_NAMED]]
    row = NotificationRow(
        id=uuid4(),
        rule_id=rule.id,
        state=state,
        message=_text(list(subjects.values())),
        subjects=named,
        count=len(subjects),
        created_at=now,
    )
    session.add(row)
    rule.due_at = rule.due_at or now
    return row


def _text(lines: Sequence[str]) -> str:
    rest = len(lines) - _MOST_IN_TEXT
    return "\n".join([*lines[:_MOST_IN_TEXT], *([f"and {rest} more"] if rest > 0 else [])])
