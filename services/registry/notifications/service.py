"""The operations of admins on notifications."""

from __future__ import annotations

import base64
import secrets
from dataclasses import dataclass
from datetime import UTC, datetime

from pydantic import SecretStr
from sqlalchemy import case, delete, func, select
from sqlalchemy.ext.asyncio import AsyncSession

from services.registry import queries
from services.registry.context import Registry
from services.registry.notifications import senders, watch
from shared.database import device_refs
from shared.database.engine import Database
from shared.database.tables import Device, DeviceModel, NotificationRow, NotificationRule, NotificationSubject
from shared.errors import ConflictError, NotFoundError
from shared.protocol import admin
from shared.server.rpc import RequestContext

_KEY_BYTES = 32


@dataclass(frozen=True, slots=True)
class NotificationService:
    """The operations of admins on rules and their messages."""

    registry: Registry

    async def add(self, context: RequestContext, request: admin.NotificationAdd) -> admin.NotificationRuleAdded:
        """Add a rule."""
        session = context.session
        await senders.check(request.url)
        # One at a time, as they are counted.
        await session.execute(select(func.pg_advisory_xact_lock(func.hashtext("mdm:notification_rules"))))
        names = list(await session.scalars(select(NotificationRule.name)))
        if request.name in names:
            raise ConflictError(f"name: there is a rule {request.name}")
        if len(names) >= admin.MAX_RULES:
            raise ConflictError(f"there are {admin.MAX_RULES} rules, which is the limit")
        device = None if request.device is None else (await queries.device(session, request.device))[0]
        model = None if request.model is None else await queries.model(session, request.model)
        vault = self.registry.instance.vault
        key = None
        if senders.is_webhook(request.url):
            key = senders.KEY_PREFIX + base64.b64encode(secrets.token_bytes(_KEY_BYTES)).decode()
        target = senders.shown(request.url)
        session.add(
            NotificationRule(
                name=request.name,
                condition=request.condition,
                device_id=device and device.id,
                tag=request.tag,
                model_id=model and model.id,
                hold_s=request.hold_s,
                percent=request.percent,
                older_than_s=request.older_than_s,
                url=vault.encrypt(SecretStr(request.url)),
                key=None if key is None else vault.encrypt(SecretStr(key)),
                target=target,
                author=context.account,
            )
        )
        facts = request.model_dump(mode="json", exclude={"request_id", "url"}, exclude_none=True)
        context.audit("notification.add", f"notification/{request.name}", after={**facts, "target": target})
        return admin.NotificationRuleAdded(name=request.name, target=target, key=key)

    async def list_all(self, context: RequestContext, _: admin.Nothing) -> admin.NotificationRules:
        """Return all rules."""
        waiting = NotificationRow.ended_at.is_(None)
        mine = NotificationRow.rule_id == NotificationRule.id
        fired = (NotificationSubject.rule_id == NotificationRule.id, NotificationSubject.fired)
        rows = await context.session.execute(
            select(
                NotificationRule,
                DeviceModel.code,
                Device.key,
                select(func.count()).where(*fired).scalar_subquery(),
                select(func.count()).where(mine, waiting).scalar_subquery(),
                select(NotificationRow.error)
                .where(mine, NotificationRow.attempts > 0)
                .order_by(case((waiting, 0), else_=1), NotificationRow.number.desc())
                .limit(1)
                .scalar_subquery(),
            )
            .outerjoin(Device, Device.id == NotificationRule.device_id)
            .outerjoin(DeviceModel, DeviceModel.id == func.coalesce(NotificationRule.model_id, Device.model_id))
            .order_by(NotificationRule.name)
        )
        return admin.NotificationRules(
            rules=[
                admin.NotificationRuleView.from_row(
                    rule,
                    device=key and device_refs.client_id(code, key),
                    model=code if rule.model_id is not None else None,
                    firing=firing,
                    waiting=queued,
                    last_error=error,
                )
                for rule, code, key, firing, queued, error in rows
            ]
        )

    async def remove(self, context: RequestContext, request: admin.NotificationRef) -> admin.Removed:
        """Remove a rule, and what it has not delivered."""
        rule = await _rule(context.session, request.name, lock=True)
        await context.session.delete(rule)
        context.audit("notification.remove", f"notification/{rule.name}", before={"target": rule.target})
        return admin.Removed(removed=rule.name)

    async def test(self, context: RequestContext, request: admin.NotificationRef) -> admin.NotificationQueued:
        """Queue a message that is only a test; what waits before it is tried at once."""
        rule = await _rule(context.session, request.name, lock=True)
        now = datetime.now(UTC)
        row = watch.put(context.session, rule, "test", {"test": f"A test of the rule {rule.name}."}, now)
        rule.due_at = now
        return admin.NotificationQueued(id=row.id)

    async def history(self, context: RequestContext, request: admin.NotificationHistory) -> admin.Notifications:
        """Return the newest messages."""
        query = select(NotificationRow, NotificationRule.name).join(
            NotificationRule, NotificationRule.id == NotificationRow.rule_id
        )
        if request.name is not None:
            query = query.where(NotificationRule.id == (await _rule(context.session, request.name)).id)
        rows = await context.session.execute(query.order_by(NotificationRow.number.desc()).limit(request.limit))
        return admin.Notifications(
            notifications=[
                admin.NotificationView.from_row(row, rule=name, text=row.message, delivery=_delivery(row))
                for row, name in rows
            ]
        )


async def forget(database: Database, *, before: datetime) -> None:
    """Delete messages whose delivery ended before this time (UTC)."""
    async with database.transaction() as session:
        await session.execute(delete(NotificationRow).where(NotificationRow.ended_at < before))


def _delivery(row: NotificationRow) -> admin.Delivery:
    if row.ended_at is None:
        return "waiting"
    return "delivered" if row.error is None else "failed"


async def _rule(session: AsyncSession, name: str, *, lock: bool = False) -> NotificationRule:
    query = select(NotificationRule).where(NotificationRule.name == name)
    found = await session.scalar(query.with_for_update() if lock else query)
    if found is None:
        raise NotFoundError(f"name: there is no rule {name}", name=name)
    return found
