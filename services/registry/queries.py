"""Queries on models, devices, configurations and reports."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, Final, TypeVar

from sqlalchemy import ColumnElement, Select, and_, delete, false, func, not_, select, true
from sqlalchemy.ext.asyncio import AsyncSession
from sqlalchemy.orm import InstrumentedAttribute

from shared.database import device_refs, presences
from shared.database.arrays import one_of
from shared.database.tables import (
    AuditEntry,
    ConfigLayer,
    Device,
    DeviceConfig,
    DeviceModel,
    FirmwareImage,
    Presence,
)
from shared.errors import NotFoundError
from shared.protocol import admin

_PRESENT: Final[dict[admin.PresenceState, ColumnElement[bool] | InstrumentedAttribute[bool]]] = {
    "online": Presence.online,
    "asleep": presences.ASLEEP,
    "offline": presences.OFFLINE,
}
S = TypeVar("S", bound=Select[*tuple[Any, ...]])


def active(query: S) -> S:
    """Return a query over all active devices, with their models and presences."""
    return (
        query.select_from(Device)
        .join(DeviceModel, DeviceModel.id == Device.model_id)
        .join(Presence, Presence.device_id == Device.id)
        .where(Device.lifecycle == "ACTIVE")
    )


_IN_STEP: Final = and_(Presence.config_version == Presence.desired_version, Presence.config_outcome == "applied")
# Built once: building a statement takes as long as executing it.
_DEVICES: Final = active(select(Device, DeviceModel, Presence))


async def model(session: AsyncSession, code: str) -> DeviceModel:
    """Return the model of this code, or raise NotFoundError."""
    found = await session.scalar(select(DeviceModel).where(DeviceModel.code == code))
    if found is None:
        raise NotFoundError(f"model: there is no model {code}; add it first", model=code)
    return found


async def unsealed_models(session: AsyncSession) -> list[str]:
    """Return the codes of models whose places that are `writeOnly` have not been looked for."""
    return list(await session.scalars(select(DeviceModel.code).where(DeviceModel.sealed.is_(None))))


async def sealed_places(session: AsyncSession) -> list[Any]:
    """Return the places that are `writeOnly` in the schema of any model."""
    return [place for places in await session.scalars(select(DeviceModel.sealed)) for place in places or []]


async def count_devices(session: AsyncSession) -> dict[str, int]:
    """Return the number of devices of each model, by its code."""
    rows = await session.execute(
        select(DeviceModel.code, func.count(Device.id))
        .outerjoin(Device, and_(Device.model_id == DeviceModel.id, Device.lifecycle == "ACTIVE"))
        .group_by(DeviceModel.code)
    )
    return dict(rows.all())


async def models(session: AsyncSession) -> list[tuple[DeviceModel, int]]:
    """Return all models by code, each with the number of its devices."""
    count = (
        select(func.count())
        .where(Device.model_id == DeviceModel.id, Device.lifecycle == "ACTIVE")
        .correlate(DeviceModel)
        .scalar_subquery()
    )
    query = select(DeviceModel, count).order_by(DeviceModel.code)
    return list(await session.execute(query))


async def device(session: AsyncSession, name: str, *, lock: bool = False) -> tuple[Device, DeviceModel, Presence]:
    """Return a device by key or client id, locked if asked, or raise NotFoundError."""
    query = _DEVICES.where(device_refs.named(name))
    if lock:
        # The session's copy of the row and of its model may be older than the lock.
        query = query.with_for_update(of=Device).execution_options(populate_existing=True)
    row = (await session.execute(query)).one_or_none()
    if row is None:
        raise device_refs.unknown(name)
    return row


async def devices(
    session: AsyncSession, wanted: admin.DeviceList, *, alike: ColumnElement[bool] | None = None
) -> list[tuple[Device, DeviceModel, Presence]]:
    """Return up to `limit` matching devices after `after`, oldest first; `alike` is one more condition."""
    # Filter both tables: the planner does not infer the second condition.
    behind = and_(Device.id > wanted.after, Presence.device_id > wanted.after)
    query = _DEVICES.where(behind).order_by(Device.id).limit(wanted.limit)
    if wanted.model is not None:
        query = query.where(DeviceModel.code == wanted.model)
    if wanted.tag is not None:
        query = query.where(Device.tags.contains([wanted.tag]))
    if wanted.online is not None:
        query = query.where(Presence.online if wanted.online else not_(Presence.online))
    if wanted.presence is not None:
        query = query.where(_PRESENT[wanted.presence])
    if wanted.rotation_state is not None:
        query = query.where(Device.rotation_state == wanted.rotation_state)
    if wanted.drift is not None:
        query = query.where(Presence.drifts if wanted.drift else _IN_STEP)
    if alike is not None:
        query = query.where(alike)
    return list(await session.execute(query))


async def lock_name(session: AsyncSession, model: DeviceModel, name: str) -> str | None:
    """Lock a name against others that lock it, and return the key of the model's first device that has it."""
    lock = func.pg_advisory_xact_lock(func.hashtextextended(f"mdm:name:{model.code}:{name}", 0))
    await session.execute(select(lock))
    named = active(select(Device.key)).where(Device.model_id == model.id, Device.name == name)
    return await session.scalar(named.order_by(Device.id).limit(1))


async def presence(session: AsyncSession, client_id: str) -> Presence:
    """Return and lock a device's last status, or raise NotFoundError."""
    found = await session.scalar(
        select(Presence)
        .join(Device, Device.id == Presence.device_id)
        .join(DeviceModel, DeviceModel.id == Device.model_id)
        .where(device_refs.named(client_id), Device.lifecycle == "ACTIVE")
        .with_for_update(of=Presence)
    )
    if found is None:
        raise device_refs.unknown(client_id)
    return found


async def config(session: AsyncSession, device: Device) -> DeviceConfig:
    """Return the device's desired configuration."""
    found = await session.get(DeviceConfig, (device.id, device.config_version))
    if found is None:  # devices_config_version_fkey forbids it
        raise NotFoundError(f"there is no configuration {device.config_version} of {device.key}")
    return found


async def config_version(session: AsyncSession, device: Device, version: int) -> DeviceConfig:
    """Return a version of the device's configuration, or raise NotFoundError."""
    found = await session.get(DeviceConfig, (device.id, version))
    if found is None:
        raise NotFoundError(f"version: there is no version {version} of {device.key}", version=version)
    return found


async def config_versions(
    session: AsyncSession, device: Device, wanted: admin.ConfigHistory
) -> list[DeviceConfig]:
    """Return up to `limit` versions below `before`, newest first."""
    query = select(DeviceConfig).where(DeviceConfig.device_id == device.id)
    if wanted.before is not None:
        query = query.where(DeviceConfig.version < wanted.before)
    return list(await session.scalars(query.order_by(DeviceConfig.version.desc()).limit(wanted.limit)))


async def forget_configs(session: AsyncSession, device: Device, *, keep: int) -> None:
    """Delete the versions of a device beyond the newest, except the one that it has last reported."""
    reported = select(Presence.config_version).where(Presence.device_id == device.id).scalar_subquery()
    await session.execute(
        delete(DeviceConfig)
        .where(DeviceConfig.device_id == device.id, DeviceConfig.version <= device.config_version - keep)
        .where(DeviceConfig.version.is_distinct_from(reported))
        .execution_options(synchronize_session=False)
    )


async def last_good_config(session: AsyncSession, config: DeviceConfig) -> DeviceConfig | None:
    """Return the newest earlier version that the device applied, else one without a known failure."""
    applied = DeviceConfig.outcome == "applied"
    query = (
        select(DeviceConfig)
        .where(DeviceConfig.device_id == config.device_id, DeviceConfig.version < config.version)
        .where(applied | DeviceConfig.outcome.is_(None))
        .order_by(func.coalesce(applied, false()).desc(), DeviceConfig.version.desc())
        .limit(1)
    )
    found: DeviceConfig | None = await session.scalar(query)
    return found


async def lock_layers(session: AsyncSession, *, exclusive: bool = False) -> None:
    """Lock the layers against changes, or exclusively also against readers, until the transaction ends.

    Must be called before a device is locked: a change of a layer locks devices after it.
    """
    lock = func.pg_advisory_xact_lock if exclusive else func.pg_advisory_xact_lock_shared
    await session.execute(select(lock(func.hashtext("mdm:config_layers"))))


async def layers(session: AsyncSession) -> list[ConfigLayer]:
    """Return all layers in the order in which they apply."""
    # Compared byte by byte, whatever the database's collation.
    order = (ConfigLayer.priority, ConfigLayer.tag.collate("C"))
    return list(await session.scalars(select(ConfigLayer).order_by(*order)))


async def layer(session: AsyncSession, tag: str) -> ConfigLayer:
    """Return the layer of a tag, or raise NotFoundError."""
    found = await session.get(ConfigLayer, tag)
    if found is None:
        raise NotFoundError(f"tag: there is no layer {tag}", tag=tag)
    return found


async def lock_tagged(session: AsyncSession, tag: str) -> list[tuple[Device, DeviceModel, Presence]]:
    """Return and lock all devices with a tag."""
    return await _lock(session, Device.tags.contains([tag]))


async def lock_of_model(session: AsyncSession, model: DeviceModel) -> list[tuple[Device, DeviceModel, Presence]]:
    """Return and lock all devices of a model."""
    return await _lock(session, Device.model_id == model.id)


async def lock_all(session: AsyncSession) -> list[tuple[Device, DeviceModel, Presence]]:
    """Return and lock all devices."""
    return await _lock(session, true())


async def all_versions(session: AsyncSession, device_ids: Iterable[int]) -> list[DeviceConfig]:
    """Return all versions of the configurations of devices, oldest first."""
    query = select(DeviceConfig).where(one_of(DeviceConfig.device_id, device_ids))
    return list(await session.scalars(query.order_by(DeviceConfig.device_id, DeviceConfig.version)))


async def _lock(
    session: AsyncSession, condition: ColumnElement[bool]
) -> list[tuple[Device, DeviceModel, Presence]]:
    query = _DEVICES.where(condition).order_by(Device.id).with_for_update(of=Device)
    return list(await session.execute(query.execution_options(populate_existing=True)))


async def set_key(session: AsyncSession, device_id: int, public_key: str) -> None:
    """Store the key of a new device."""
    device = await session.get_one(Device, device_id)
    device.public_key = public_key


async def is_unfinished(session: AsyncSession, device_id: int) -> bool:
    """Return whether the creation or the removal of a device is still not finished."""
    query = select(Device.id).where(Device.id == device_id, Device.lifecycle != "ACTIVE")
    return await session.scalar(query) is not None


async def is_known(session: AsyncSession, client_id: str) -> bool:
    """Return whether there is a device of this client id, in any state."""
    query = (
        select(Device.id).join(DeviceModel, DeviceModel.id == Device.model_id).where(device_refs.named(client_id))
    )
    return await session.scalar(query) is not None


async def unfinished(session: AsyncSession) -> list[tuple[int, str, str]]:
    """Return (device id, client id, origin) of each device whose creation or removal is not finished."""
    rows = await session.execute(
        select(Device.id, DeviceModel.code, Device.key, Device.request_id)
        .join(DeviceModel, DeviceModel.id == Device.model_id)
        .where(Device.lifecycle != "ACTIVE")
    )
    return [(row[0], device_refs.client_id(row[1], row[2]), row[3]) for row in rows]


@dataclass(frozen=True, slots=True)
class Compared:
    """A device as input of the reconciler."""

    lifecycle: str
    enabled: bool
    rotation_state: str
    secret_generation: int
    secret_fingerprint: str | None
    has_key: bool
    # Changes by the device itself are left out: they do not change its desired state.
    online: bool = field(compare=False)
    last_seen_at: datetime | None = field(compare=False)
    refused_at: datetime | None = field(compare=False)
    reported: int | None = field(compare=False)


async def all_for_comparison(session: AsyncSession) -> dict[str, Compared]:
    """Return all devices in any state, by client id."""
    rows = await session.execute(
        select(
            DeviceModel.code,
            Device.key,
            Device.lifecycle,
            Device.enabled,
            Device.rotation_state,
            Device.secret_generation,
            Device.secret_fingerprint,
            Device.public_key.is_not(None),
            Presence.online,
            Presence.last_seen_at,
            Presence.refused_at,
            Presence.secret_generation,
        )
        .join(DeviceModel, DeviceModel.id == Device.model_id)
        .join(Presence, Presence.device_id == Device.id)
    )
    return {device_refs.client_id(code, key): Compared(*facts) for code, key, *facts in rows}


async def images_of(session: AsyncSession, model: DeviceModel) -> int:
    """Return the number of a model's firmware images."""
    query = select(func.count()).select_from(FirmwareImage).where(FirmwareImage.model_id == model.id)
    return await session.scalar(query) or 0


async def devices_of(session: AsyncSession, model: DeviceModel) -> int:
    """Return the number of a model's devices, including those that are being created or removed."""
    return await session.scalar(select(func.count()).select_from(Device).where(Device.model_id == model.id)) or 0


async def audit(session: AsyncSession, wanted: admin.AuditList) -> list[AuditEntry]:
    """Return up to `limit` matching entries, newest first."""
    query = select(AuditEntry).order_by(AuditEntry.id.desc()).limit(wanted.limit)
    if wanted.subject is not None:
        query = query.where(AuditEntry.subject == wanted.subject)
    if wanted.actor is not None:
        query = query.where(AuditEntry.actor == wanted.actor)
    if wanted.before is not None:
        query = query.where(AuditEntry.id < wanted.before)
    return list(await session.scalars(query))
