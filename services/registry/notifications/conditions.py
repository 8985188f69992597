"""What the conditions of rules hold for, by subject, each with a text for people."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from datetime import datetime, timedelta
from typing import Any, Final, TypeAlias

from sqlalchemy import ColumnElement, and_, func, select, true
from sqlalchemy.ext.asyncio import AsyncSession

from services.registry import queries
from shared.database import device_refs, presences
from shared.database.tables import (
    ClaimRequestRow,
    CoreDumpRow,
    Device,
    DeviceHealth,
    DeviceModel,
    NotificationRule,
    Rollout,
)

Subjects: TypeAlias = dict[str, str]
_NAME: Final = func.concat(device_refs.PREFIX, DeviceModel.code, "-", Device.key)
_TITLE: Final = func.concat(_NAME, func.coalesce(" (" + func.nullif(Device.name, "") + ")", ""))


def selected(rule: NotificationRule) -> ColumnElement[bool]:
    """Return the condition on the devices that a rule is about."""
    return and_(
        Device.enabled,
        true() if rule.device_id is None else Device.id == rule.device_id,
        true() if rule.tag is None else Device.tags.contains([rule.tag]),
        true() if rule.model_id is None else Device.model_id == rule.model_id,
    )


async def silent(session: AsyncSession, rule: NotificationRule, _: datetime) -> Subjects:
    """Return the devices that are offline; one that sleeps is from when it is overdue on."""
    text = func.concat(_TITLE, " is offline since ", _utc(presences.SEEN_AT))
    return await _devices(session, text, selected(rule), presences.OFFLINE, presences.WAS_SEEN)


async def share_silent(session: AsyncSession, rule: NotificationRule, _: datetime) -> Subjects:
    """Return the selection, if the share of its devices that are offline is reached."""
    query = queries.active(select(func.count(), func.count().filter(presences.OFFLINE)))
    total, offline = (await session.execute(query.where(selected(rule), presences.WAS_SEEN))).one()
    if not total or offline * 100 < rule.percent * total:
        return {}
    return {"devices": f"{offline} of {total} devices are offline"}


async def unhealthy(session: AsyncSession, rule: NotificationRule, _: datetime) -> Subjects:
    """Return the devices with a reason not to be healthy, or only those whose health is critical or worse."""
    levels = ["critical", "inactive"] if rule.condition == "critical" else ["warning", "critical", "inactive"]
    why = func.array_to_string(DeviceHealth.reasons, ", ")
    text = func.concat(_TITLE, " is ", DeviceHealth.health, ": ", func.replace(why, "_", " "))
    query = _of_devices(text, selected(rule)).join(DeviceHealth, DeviceHealth.device_id == Device.id)
    return _subjects(await session.execute(query.where(DeviceHealth.health.in_(levels))))


async def core_dump(session: AsyncSession, rule: NotificationRule, _: datetime) -> Subjects:
    """Return the core dumps that were stored since the rule was made, and are still there."""
    subject = func.concat("core dump ", CoreDumpRow.id)
    text = func.concat(
        _TITLE, " has crashed", ": " + func.nullif(CoreDumpRow.reason, ""), "; core dump ", CoreDumpRow.id
    )
    query = queries.active(select(subject, text)).join(CoreDumpRow, CoreDumpRow.device_id == Device.id)
    return _subjects(await session.execute(query.where(selected(rule), CoreDumpRow.stored_at > rule.created_at)))


async def secret_old(session: AsyncSession, rule: NotificationRule, now: datetime) -> Subjects:
    """Return the devices whose secret is older than allowed."""
    before = now - timedelta(seconds=rule.older_than_s)
    text = func.concat(_TITLE, " has a secret of ", _utc(Device.secret_created_at))
    return await _devices(session, text, selected(rule), presences.WAS_SEEN, Device.secret_created_at < before)


async def rollout_halted(session: AsyncSession, _rule: NotificationRule, _: datetime) -> Subjects:
    """Return the rollouts that have halted and were not resumed or aborted."""
    subject = func.concat("rollout ", Rollout.id)
    text = func.concat(subject, " of ", Rollout.version, " has halted: ", Rollout.reason)
    return _subjects(await session.execute(select(subject, text).where(Rollout.state == "HALTED")))


async def claim_waits(session: AsyncSession, _rule: NotificationRule, _: datetime) -> Subjects:
    """Return the machines that wait for an admin."""
    text = func.concat("machine ", ClaimRequestRow.uid, " of ", ClaimRequestRow.claim_id, " waits for approval")
    query = select(ClaimRequestRow.uid, text).where(ClaimRequestRow.state == "pending")
    return _subjects(await session.execute(query))


CONDITIONS: Final[Mapping[str, Callable[[AsyncSession, NotificationRule, datetime], Awaitable[Subjects]]]] = {
    "silent": silent,
    "share_silent": share_silent,
    "unhealthy": unhealthy,
    "critical": unhealthy,
    "core_dump": core_dump,
    "secret_old": secret_old,
    "rollout_halted": rollout_halted,
    "claim_waits": claim_waits,
}
"""All but `certificate_ends`, which is not in the database."""


def _of_devices(text: ColumnElement[Any], *conditions: ColumnElement[bool]) -> Any:  # noqa: ANN401 - a Select
    return queries.active(select(_NAME, text)).where(*conditions)


async def _devices(session: AsyncSession, text: ColumnElement[Any], *conditions: ColumnElement[bool]) -> Subjects:
    return _subjects(await session.execute(_of_devices(text, *conditions)))


def _subjects(rows: Any) -> Subjects:  # noqa: ANN401 - a Result
    return dict(map(tuple, rows))


def _utc(time: ColumnElement[Any] | Any) -> ColumnElement[str]:  # noqa: ANN401 - or an attribute
    return func.to_char(func.timezone("UTC", time), 'YYYY-MM-DD HH24:MI "UTC"')
