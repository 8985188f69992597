"""Queries on the vitals of devices."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from datetime import datetime
from operator import itemgetter
from typing import Final, NamedTuple

from sqlalchemy import ARRAY, Float, and_, cast, delete, func, literal, select, true
from sqlalchemy.dialects.postgresql import insert
from sqlalchemy.ext.asyncio import AsyncSession

from services.firmware.diagnostics.vital_hours import StoredHour, Summary
from services.firmware.queries import RUNNING_LABEL
from shared.database import device_refs
from shared.database.arrays import one_of_rows
from shared.database.tables import VITAL_FIELDS, Device, DeviceModel, Presence, VitalHour
from shared.protocol import admin

VERSIONS_MAX: Final = 50
_SHARES: Final = (0.05, 0.5, 0.95)


class ReportingDevice(NamedTuple):
    """A device that reports vitals: its id, and the firmware that it runs, as far as is known."""

    device_id: int
    version: str | None


class Comparison(NamedTuple):
    """A vital of the devices that ran one firmware: how many, and of their means the mean and three quantiles."""

    name: str
    version: str | None
    devices: int
    mean: float
    quantiles: Sequence[float]


# The version that a device reports counts only if its image is not stored.
_VERSION: Final = func.coalesce(RUNNING_LABEL, Presence.firmware_version)
_REPORTING: Final = (
    select(DeviceModel.code, Device.key, Device.id, _VERSION)
    .join(DeviceModel, DeviceModel.id == Device.model_id)
    .outerjoin(Presence, Presence.device_id == Device.id)
    .where(device_refs.AMONG, Device.enabled, Device.lifecycle == "ACTIVE")
)


async def reporting(session: AsyncSession, client_ids: Iterable[str]) -> dict[str, ReportingDevice]:
    """Return those devices that exist, by client id.

    They are not locked: one that is about to be removed, or is being compared, must not hold up all others.
    """
    rows = await session.execute(_REPORTING, {"keys": device_refs.keys(client_ids)})
    return {device_refs.client_id(code, key): ReportingDevice(*rest) for code, key, *rest in rows}


async def hours(
    session: AsyncSession, keys: Iterable[tuple[int, datetime]]
) -> dict[tuple[int, datetime], StoredHour]:
    """Return what is stored of devices, by their ids, and hours, by their begin."""
    query = select(VitalHour).where(one_of_rows((VitalHour.device_id, VitalHour.hour), keys))
    return {(row.device_id, row.hour): stored(row) for row in await session.scalars(query)}


def stored(row: VitalHour) -> StoredHour:
    """Return the content of a row."""
    places = range(0, len(row.numbers), VITAL_FIELDS)
    summaries = (Summary.read(row.numbers[place : place + VITAL_FIELDS]) for place in places)
    return StoredHour(row.version, dict(zip(row.names.split(), summaries, strict=True)))


async def store(session: AsyncSession, hours: Mapping[tuple[int, datetime], StoredHour]) -> None:
    """Store many hours at once, in place of what is stored of them."""
    new = insert(VitalHour)
    changed = {name: new.excluded[name] for name in ("version", "names", "numbers")}
    rows = [
        {
            "device_id": device_id,
            "hour": begin,
            "version": hour.version,
            "names": " ".join(hour.vitals),
            "numbers": [number for summary in hour.vitals.values() for number in summary],
        }
        for (device_id, begin), hour in sorted(hours.items(), key=itemgetter(0))
    ]
    await session.execute(
        new.on_conflict_do_update(index_elements=[VitalHour.device_id, VitalHour.hour], set_=changed), rows
    )


async def forget(session: AsyncSession, *, before: datetime) -> None:
    """Delete the hours that began before this time (UTC)."""
    await session.execute(delete(VitalHour).where(VitalHour.hour < before))


async def of_device(
    session: AsyncSession, name: str, *, since: datetime
) -> tuple[str, dict[datetime, StoredHour]]:
    """Return a device's client id and its hours since a time, oldest first, or raise NotFoundError."""
    query = (
        select(DeviceModel.code, Device.key, VitalHour)
        .select_from(Device)
        .join(DeviceModel, DeviceModel.id == Device.model_id)
        .outerjoin(VitalHour, and_(VitalHour.device_id == Device.id, VitalHour.hour >= since))
        .where(device_refs.named(name))
        .order_by(VitalHour.hour)
    )
    rows = list(await session.execute(query))
    if not rows:
        raise device_refs.unknown(name)
    code, key, _ = rows[0]
    return device_refs.client_id(code, key), {row.hour: stored(row) for _, _, row in rows if row is not None}


async def compared(session: AsyncSession, wanted: admin.VitalsCompare, *, since: datetime) -> list[Comparison]:
    """Return the vitals of a model's devices by name and firmware version, by what most devices ran first."""
    # PostgreSQL remembers where a name is in such a line of names, which most rows share.
    names = func.unnest(func.string_to_array(VitalHour.names, " "))
    vital = names.table_valued("name", with_ordinality="place").render_derived("vital")
    place = (vital.c.place - 1) * VITAL_FIELDS
    count, mean = (cast(VitalHour.numbers[place + number], Float) for number in (1, 3))
    means = (
        select(vital.c.name, VitalHour.version, (func.sum(mean * count) / func.sum(count)).label("mean"))
        .select_from(VitalHour)
        .join(vital, true())
        .join(Device, Device.id == VitalHour.device_id)
        .join(DeviceModel, DeviceModel.id == Device.model_id)
        .where(DeviceModel.code == wanted.model, VitalHour.hour >= since)
        .group_by(vital.c.name, VitalHour.version, VitalHour.device_id)
    )
    if wanted.name is not None:
        means = means.where(vital.c.name == wanted.name)
    of_devices = means.subquery()
    shares = literal(list(_SHARES), ARRAY(Float))
    devices = func.count()
    query = (
        select(
            of_devices.c.name,
            of_devices.c.version,
            devices,
            func.avg(of_devices.c.mean),
            func.percentile_cont(shares).within_group(of_devices.c.mean),
        )
        .group_by(of_devices.c.name, of_devices.c.version)
        .order_by(of_devices.c.name, devices.desc(), of_devices.c.version)
        .limit(VERSIONS_MAX * 16)
    )
    return [Comparison(*row) for row in await session.execute(query)]
