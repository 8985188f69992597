"""What is wrong with devices, and since when: the only place that decides it, in SQL.

A reason has a level: 1 for `warning`, 2 for `critical`, 3 for `inactive`; the highest is the device's health. A
device that is disabled has none, and of one that was never seen only what its messages or logins show.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any, Final

from sqlalchemy import (
    BindParameter,
    ColumnElement,
    DateTime,
    Integer,
    Select,
    Subquery,
    and_,
    any_,
    case,
    func,
    literal,
    literal_column,
    not_,
    or_,
    select,
    true,
    union_all,
)
from sqlalchemy.dialects.postgresql import JSONB, aggregate_order_by
from sqlalchemy.orm import InstrumentedAttribute

from services.registry import clashes
from shared.database import device_refs, presences
from shared.database.image_hashes import is_hash_of
from shared.database.tables import (
    CoreDumpRow,
    Device,
    DeviceConfig,
    DeviceConnection,
    DeviceFlaw,
    DeviceModel,
    FirmwareDelivery,
    FirmwareImage,
    Presence,
    Rollout,
    RolloutDevice,
    Rotation,
)
from shared.protocol.admin import Health

LEVELS: Final[dict[int, Health]] = {1: "warning", 2: "critical", 3: "inactive"}
CRASHED_FOR: Final = timedelta(days=7)
"""A core dump counts for so long, or until it is deleted."""
SETTLES: Final = timedelta(minutes=1)
"""A device between two secrets is refused once, and logs in with the other one."""
Now = datetime | ColumnElement[datetime]
"""A parameter, where a query is built once for many times: that takes longer than to execute it."""
Ids = BindParameter[Sequence[int]]
"""A parameter for an array."""
_WARNING: Final = literal_column("1", Integer)
_CRITICAL: Final = literal_column("2", Integer)
_INACTIVE: Final = literal_column("3", Integer)
_NOTHING: Final[ColumnElement[Any]] = literal_column("NULL::text")
_BY_A_DEVICE: Final[ColumnElement[str]] = literal_column(f"'{device_refs.PREFIX}%'")
_FIRMWARE: Final = {
    "withheld": "firmware_withheld",
    "failed": "firmware_failed",
    "rolled_back": "firmware_rolled_back",
    "fell_back": "firmware_rolled_back",
}


@dataclass(frozen=True, slots=True)
class HealthThresholds:
    """How long a device may be offline and silent before each level."""

    warning: timedelta
    critical: timedelta
    inactive: timedelta


def _reasons(now: Now, thresholds: HealthThresholds, device_ids: Ids | None) -> Subquery:
    """Return all reasons at `now`, of all devices or of these: device_id, reason, level, since and detail."""

    def among(column: ColumnElement[int] | InstrumentedAttribute[int]) -> ColumnElement[bool]:
        return true() if device_ids is None else column == any_(device_ids)

    found = (
        _offline(now, thresholds).where(among(Presence.device_id)),
        _refused(now).where(among(Presence.device_id)),
        _reason(Presence.device_id, "clash", _CRITICAL, Presence.clashed_at).where(
            Presence.clashed_at > now - clashes.WINDOW, among(Presence.device_id)
        ),
        _configuration().where(among(Device.id)),
        _restored_configuration().where(among(Device.id)),
        _connection().where(among(DeviceConnection.device_id)),
        _firmware().where(among(FirmwareDelivery.device_id)),
        _rotation(now).where(among(Device.id)),
        _core_dumps(now).where(among(CoreDumpRow.device_id)).group_by(CoreDumpRow.device_id),
        _flaws().where(among(DeviceFlaw.device_id)).group_by(DeviceFlaw.device_id),
    )
    every = union_all(*found).subquery()
    query = select(every).join(Device, Device.id == every.c.device_id)
    return query.where(Device.enabled, Device.lifecycle == "ACTIVE").subquery("reasons")


def worst(now: Now, thresholds: HealthThresholds, device_ids: Ids | None = None) -> Subquery:
    """Return the devices that have reasons, or which of these have: device_id, level, names and details.

    `names` are those of the reasons, in order; `details` are objects with all columns, the worst first.
    """
    found = _reasons(now, thresholds, device_ids)
    names = func.array_agg(aggregate_order_by(found.c.reason, found.c.reason)).label("names")
    columns = (found.c.reason, found.c.level, found.c.since, found.c.detail)
    facts = func.jsonb_build_object(*(part for it in columns for part in (literal_column(f"'{it.name}'"), it)))
    details = func.jsonb_agg(
        aggregate_order_by(facts, found.c.level.desc(), found.c.since.desc(), found.c.reason), type_=JSONB
    ).label("details")
    query = select(found.c.device_id, func.max(found.c.level).label("level"), names, details)
    return query.group_by(found.c.device_id).subquery("worst")


def of(level: ColumnElement[Any]) -> ColumnElement[Health]:
    """Return the health of a device with its presence, by the level of its worst reason, null if it has none."""
    return case(
        (not_(Device.enabled), "disabled"),
        *((level == number, name) for number, name in LEVELS.items()),
        (not_(presences.WAS_SEEN), "never_seen"),
        else_="healthy",
    )


def states(now: Now, thresholds: HealthThresholds, device_ids: Ids | None = None) -> Subquery:
    """Return the health of all devices, or of these, with its reasons: device_id, health, reasons and details.

    The last two are those of `worst`.
    """
    found = worst(now, thresholds, device_ids)
    query = (
        select(
            Device.id.label("device_id"),
            of(found.c.level).label("health"),
            func.coalesce(found.c.names, literal_column("'{}'::text[]")).label("reasons"),
            func.coalesce(found.c.details, literal_column("'[]'::jsonb")).label("details"),
        )
        .join(Presence, Presence.device_id == Device.id)
        .outerjoin(found, found.c.device_id == Device.id)
        .where(Device.lifecycle == "ACTIVE")
    )
    if device_ids is not None:
        query = query.where(Device.id == any_(device_ids))
    return query.subquery("states")


def _reason(device_id: Any, reason: Any, level: Any, since: Any, detail: Any = _NOTHING) -> Select[Any]:  # noqa: ANN401 - columns of any kind
    named = literal_column(f"'{reason}'") if isinstance(reason, str) else reason
    columns = {"device_id": device_id, "reason": named, "level": level, "since": since, "detail": detail}
    return select(*(column.label(name) for name, column in columns.items()))


def _at(time: Now) -> ColumnElement[datetime]:
    return literal(time, DateTime(timezone=True)) if isinstance(time, datetime) else time


def _offline(now: Now, thresholds: HealthThresholds) -> Select[Any]:
    due = presences.SEEN_AT + presences.INTERVAL
    inactive, critical = _at(now - thresholds.inactive), _at(now - thresholds.critical)
    level = case((due < inactive, _INACTIVE), (due < critical, _CRITICAL), else_=_WARNING)
    is_long = due < _at(now - min(thresholds.warning, thresholds.critical, thresholds.inactive))
    return _reason(Presence.device_id, "offline", level, due).where(presences.OFFLINE, is_long)


def _refused(now: Now) -> Select[Any]:
    is_new = or_(not_(presences.WAS_SEEN), Presence.refused_at > Presence.last_seen_at)
    is_settled = or_(not_(presences.WAS_SEEN), _at(now - SETTLES) > presences.SEEN_AT)
    return _reason(Presence.device_id, "refused", _CRITICAL, Presence.refused_at).where(
        Presence.refused_at.is_not(None), not_(Presence.online), is_new, is_settled
    )


def _configuration() -> Select[Any]:
    """Find desired versions that were rejected, or reverted and not replaced."""
    name = func.concat("config_", Presence.config_outcome)
    return (
        _reason(Device.id, name, _WARNING, DeviceConfig.reported_at, Presence.config_error)
        .select_from(Device)
        .join(Presence, Presence.device_id == Device.id)
        .join(
            DeviceConfig,
            and_(DeviceConfig.device_id == Device.id, DeviceConfig.version == Device.config_version),
        )
        .where(
            Presence.config_version == Device.config_version,
            Presence.config_outcome.in_(["rejected", "reverted"]),
        )
    )


def _restored_configuration() -> Select[Any]:
    """Find desired versions that were made because the device had reverted the one before."""
    itself = func.concat(device_refs.PREFIX, DeviceModel.code, "-", Device.key)
    detail = func.concat("version ", Device.config_version - 1)
    return (
        _reason(Device.id, "config_reverted", _WARNING, DeviceConfig.created_at, detail)
        .select_from(Device)
        .join(DeviceModel, DeviceModel.id == Device.model_id)
        .join(
            DeviceConfig,
            and_(DeviceConfig.device_id == Device.id, DeviceConfig.version == Device.config_version),
        )
        # The first condition is that of an index: few versions are made by devices.
        .where(DeviceConfig.author.like(_BY_A_DEVICE), DeviceConfig.author == itself)
    )


def _connection() -> Select[Any]:
    """Find refusals of the connection profile that was sent last, as by `StoredConnection.refuses`."""
    return _reason(
        DeviceConnection.device_id,
        "connection_refused",
        _WARNING,
        DeviceConnection.refused_at,
        DeviceConnection.refused_reason,
    ).where(
        DeviceConnection.refused_id == DeviceConnection.sent_id,
        DeviceConnection.refused_id.is_distinct_from(DeviceConnection.in_use),
    )


def _firmware() -> Select[Any]:
    """Find images that devices should have, by their model or a rollout, and neither run nor get."""
    name = case(*((FirmwareDelivery.stage == stage, reason) for stage, reason in _FIRMWARE.items()))
    by_rollout = (
        select(RolloutDevice.device_id)
        .join(Rollout, Rollout.id == RolloutDevice.rollout_id)
        .where(
            RolloutDevice.device_id == FirmwareDelivery.device_id,
            RolloutDevice.state != "SKIPPED",
            Rollout.sha256 == FirmwareDelivery.sha256,
            Rollout.in_force,
            Rollout.state != "ABORTED",
        )
        .exists()
    )
    runs_it = is_hash_of(Presence.firmware_sha256, FirmwareImage)
    detail = func.concat(FirmwareImage.version, ": " + func.nullif(FirmwareDelivery.error, ""))
    return (
        _reason(FirmwareDelivery.device_id, name, _WARNING, FirmwareDelivery.updated_at, detail)
        .select_from(FirmwareDelivery)
        .join(Device, Device.id == FirmwareDelivery.device_id)
        .join(DeviceModel, DeviceModel.id == Device.model_id)
        .join(Presence, Presence.device_id == Device.id)
        .join(
            FirmwareImage,
            and_(FirmwareImage.model_id == Device.model_id, FirmwareImage.sha256 == FirmwareDelivery.sha256),
        )
        .where(
            FirmwareDelivery.stage.in_(_FIRMWARE),
            or_(DeviceModel.image_sha256 == FirmwareDelivery.sha256, by_rollout),
            func.coalesce(not_(runs_it), true()),
        )
    )


def _rotation(now: Now) -> Select[Any]:
    ended_at = (
        select(func.max(Rotation.ended_at))
        .where(Rotation.device_id == Device.id, Rotation.outcome == "TIMEOUT")
        .scalar_subquery()
    )
    since = func.coalesce(ended_at, func.least(Device.rotation_retry_at, _at(now)))
    return _reason(Device.id, "rotation_timeout", _WARNING, since).where(Device.rotation_state == "TIMEOUT")


def _core_dumps(now: Now) -> Select[Any]:
    detail = func.concat(func.count(), " stored")
    return _reason(CoreDumpRow.device_id, "core_dump", _WARNING, func.max(CoreDumpRow.stored_at), detail).where(
        CoreDumpRow.stored_at > now - CRASHED_FOR
    )


def _flaws() -> Select[Any]:
    field = func.concat(DeviceFlaw.topic, " ", DeviceFlaw.field)
    detail = func.string_agg(field, aggregate_order_by(literal_column("', '"), field))
    return _reason(DeviceFlaw.device_id, "flaws", _WARNING, func.min(DeviceFlaw.at), detail)
