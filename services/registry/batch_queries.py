"""Queries for many devices at once; results are in the order of the given client ids."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import fields
from itertools import chain
from operator import attrgetter
from typing import Any, Final, NamedTuple

from sqlalchemy import (
    BigInteger,
    Text,
    and_,
    case,
    cast,
    column,
    func,
    literal_column,
    select,
    update,
)
from sqlalchemy.dialects.postgresql import JSONB
from sqlalchemy.ext.asyncio import AsyncSession

from services.registry.connection_rules import REPORTED, SEPARATOR
from shared.database import device_refs
from shared.database.arrays import Given
from shared.database.presences import Connected
from shared.database.tables import (
    ConnectionLayer,
    Device,
    DeviceConfig,
    DeviceConnection,
    DeviceModel,
    Presence,
)
from shared.protocol.messages import Status


class Desired(NamedTuple):
    """A device's desired configuration."""

    version: int
    document: dict[str, Any]
    trial_seconds: int | None
    outcome: str | None
    secret_generation: int


class ConnectedDevice(NamedTuple):
    """A device as input of its wanted connection profile; `revision` is that of the layers in force.

    `report` is what it last reported of its profiles (`connection_rules.report_text`), None if it never did.
    """

    device_id: int
    tags: list[str]
    revision: int | None
    report: str | None


class Asking(NamedTuple):
    """A device that requests its configuration."""

    desired: Desired
    connected: ConnectedDevice


_SEPARATOR: Final = literal_column(f"'{SEPARATOR}'", Text)
_REPORT: Final = func.concat(
    *chain.from_iterable((getattr(DeviceConnection, name), _SEPARATOR) for name in REPORTED)
)
# Built once: building a statement takes as long as executing it.
_AMONG: Final = and_(device_refs.AMONG, Device.lifecycle == "ACTIVE")
_ASKING: Final = (
    select(
        DeviceModel.code,
        Device.key,
        DeviceConfig.version,
        DeviceConfig.document,
        DeviceConfig.trial_seconds,
        DeviceConfig.outcome,
        Device.secret_generation,
        Device.id,
        Device.tags,
        # Executed once for the whole batch.
        select(func.max(ConnectionLayer.number)).scalar_subquery(),
        # One column, as each takes time in all answers.
        case((DeviceConnection.reported_at.is_not(None), _REPORT)),
    )
    .select_from(Device)
    .join(DeviceModel, DeviceModel.id == Device.model_id)
    .join(DeviceConfig, and_(DeviceConfig.device_id == Device.id, DeviceConfig.version == Device.config_version))
    .outerjoin(DeviceConnection, DeviceConnection.device_id == Device.id)
    .where(_AMONG)
)
_NAMES: Final = tuple(it.name for it in fields(Connected) if it.name != "boot")
_CONNECTED: Final = tuple(getattr(Presence, name) for name in _NAMES)
_PRESENCES: Final = (
    select(DeviceModel.code, Device.key, *_CONNECTED, cast(Presence.status["boot"].astext, BigInteger))
    .select_from(Device)
    .join(DeviceModel, DeviceModel.id == Device.model_id)
    .join(Presence, Presence.device_id == Device.id)
    .where(_AMONG)
    # Always in the same order: two batches that lock the same rows must not deadlock.
    .order_by(Presence.device_id)
    .with_for_update(of=Presence)
)

_GIVEN: Final = Given(*_CONNECTED, column("status", Text))
_STATUS: Final = cast(_GIVEN.c.status, JSONB)
_STORE: Final = (
    update(Presence)
    .where(Presence.device_id == _GIVEN.c.device_id)
    .values({name: _GIVEN.c[name] for name in _NAMES if name != "device_id"})
    .values(
        {
            Presence.status: func.coalesce(_STATUS, Presence.status),
            **{
                it: case((_GIVEN.c.status.is_(None), it), else_=cast(_STATUS[it.key].astext, it.type))
                for it in (Presence.firmware_version, Presence.firmware_sha256, Presence.secret_generation)
            },
        }
    )
    .execution_options(synchronize_session=False)
)


async def asking(session: AsyncSession, client_ids: Sequence[str]) -> list[Asking | None]:
    """Return the devices that request their configurations; None: there is no such device."""
    rows = await session.execute(_ASKING, {"keys": device_refs.keys(client_ids)})
    found = {
        device_refs.client_id(row[0], row[1]): Asking(Desired(*row[2:7]), ConnectedDevice(*row[7:]))
        for row in rows
    }
    return [found.get(client_id) for client_id in client_ids]


async def presences(session: AsyncSession, client_ids: Sequence[str]) -> list[Connected | None]:
    """Return and lock devices' presences; None: there is no such device. One that is named twice is one object."""
    rows = await session.execute(_PRESENCES, {"keys": device_refs.keys(client_ids)})
    found = {device_refs.client_id(code, key): Connected(*columns) for code, key, *columns in rows}
    return [found.get(client_id) for client_id in client_ids]


async def store(session: AsyncSession, changed: Iterable[tuple[Connected, Status | None]]) -> None:
    """Store presences with the status of each, None if it is as before: one statement for all."""
    rows = [
        (*attrgetter(*_NAMES)(it), status and status.model_dump_json(exclude_none=True)) for it, status in changed
    ]
    if rows:
        await session.execute(_STORE, _GIVEN.parameters(rows))


async def status(session: AsyncSession, device_id: int) -> Status | None:
    """Return the last status that a device has reported while it was online."""
    found = await session.scalar(select(Presence.status).where(Presence.device_id == device_id))
    return None if found is None else Status.model_validate(found)
