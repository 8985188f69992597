"""Queries on core dumps and on the lines of devices' logs."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from datetime import datetime, timedelta
from typing import Any, Final, NamedTuple

from sqlalchemy import ColumnElement, delete, func, select
from sqlalchemy.dialects.postgresql import insert
from sqlalchemy.ext.asyncio import AsyncSession

from shared.database import device_refs
from shared.database.arrays import one_of
from shared.database.tables import CoreDumpChunkRow, CoreDumpRow, Device, DeviceLogLine, DeviceModel, FirmwareImage
from shared.errors import NotFoundError
from shared.protocol import admin
from shared.protocol.messages import LogLevel
from shared.server.rpc import lock_key

_DUMPS: Final = device_refs.owned(CoreDumpRow)


class CoreDumpPiece(NamedTuple):
    """An encrypted chunk of a core dump."""

    offset: int
    data: bytes


async def lock(session: AsyncSession, name: str) -> None:
    """Hold the lock of this name until the transaction ends, also against replicas."""
    await session.execute(select(func.pg_advisory_xact_lock(lock_key(name))))


async def check_known(session: AsyncSession, name: str) -> None:
    """Raise NotFoundError if there is no device of this key or client id."""
    query = select(Device.id).join(DeviceModel, DeviceModel.id == Device.model_id).where(device_refs.named(name))
    if await session.scalar(query) is None:
        raise device_refs.unknown(name)


async def dump_of(
    session: AsyncSession, device_id: int, sha256: str, *, share: bool = False
) -> CoreDumpRow | None:
    """Return a device's dump in any state; with `share` it is locked against changes and removal."""
    query = select(CoreDumpRow).where(CoreDumpRow.device_id == device_id, CoreDumpRow.sha256 == sha256)
    return await session.scalar(query.with_for_update(read=True) if share else query)


async def begun(session: AsyncSession, device_id: int, *, since: datetime) -> int:
    """Return how many dumps a device has begun since this time."""
    query = select(func.count()).where(CoreDumpRow.device_id == device_id, CoreDumpRow.begun_at >= since)
    return await session.scalar(query) or 0


async def unfinished(session: AsyncSession, device_id: int) -> Sequence[CoreDumpRow]:
    """Return the dumps of a device that are in progress."""
    query = select(CoreDumpRow).where(
        CoreDumpRow.device_id == device_id, CoreDumpRow.stored_at.is_(None), CoreDumpRow.refused.is_(None)
    )
    return (await session.scalars(query)).all()


async def offsets(session: AsyncSession, dump_id: int) -> set[int]:
    """Return the offsets of the received chunks."""
    return set(await session.scalars(select(CoreDumpChunkRow.offset).where(CoreDumpChunkRow.dump_id == dump_id)))


async def store_chunk(session: AsyncSession, dump_id: int, offset: int, data: bytes) -> None:
    """Store a chunk, unless it is stored already."""
    await session.execute(
        insert(CoreDumpChunkRow).values(dump_id=dump_id, offset=offset, data=data).on_conflict_do_nothing()
    )


async def pieces(
    session: AsyncSession, dump_id: int, *, start: int = 0, limit: int | None = None
) -> list[CoreDumpPiece]:
    """Return chunks from the offset `start` on, in order."""
    query = select(CoreDumpChunkRow.offset, CoreDumpChunkRow.data).where(
        CoreDumpChunkRow.dump_id == dump_id, CoreDumpChunkRow.offset >= start
    )
    return [
        CoreDumpPiece(*row) for row in await session.execute(query.order_by(CoreDumpChunkRow.offset).limit(limit))
    ]


async def drop_pieces(session: AsyncSession, dump_id: int) -> None:
    """Delete the chunks of a dump."""
    await session.execute(delete(CoreDumpChunkRow).where(CoreDumpChunkRow.dump_id == dump_id))


async def drop_oldest(session: AsyncSession, device_id: int, *, kept: int) -> None:
    """Delete the stored dumps of a device except the newest."""
    too_many = (
        select(CoreDumpRow.id)
        .where(CoreDumpRow.device_id == device_id, CoreDumpRow.stored_at.is_not(None))
        .order_by(CoreDumpRow.id.desc())
        .offset(kept)
    )
    await session.execute(delete(CoreDumpRow).where(CoreDumpRow.id.in_(too_many)))


async def forget_unfinished(session: AsyncSession, *, before: datetime) -> None:
    """Delete the dumps that were begun before this time (UTC) and not stored."""
    await session.execute(
        delete(CoreDumpRow).where(CoreDumpRow.begun_at < before, CoreDumpRow.stored_at.is_(None))
    )


async def stored(session: AsyncSession, dump_id: int, *, lock: bool = False) -> tuple[CoreDumpRow, str]:
    """Return a stored dump and its device's client id, or raise NotFoundError."""
    query = _DUMPS.where(CoreDumpRow.id == dump_id, CoreDumpRow.stored_at.is_not(None))
    found = await device_refs.with_client_ids(session, query.with_for_update(of=CoreDumpRow) if lock else query)
    if not found:
        raise NotFoundError(f"id: there is no core dump {dump_id}", id=dump_id)
    return found[0]


async def newest(session: AsyncSession, wanted: admin.CoreDumpList) -> list[tuple[CoreDumpRow, str]]:
    """Return up to `limit` stored dumps before `before`, newest first, each with its device's client id."""
    query = _DUMPS.where(CoreDumpRow.stored_at.is_not(None), device_refs.selected(wanted.device))
    if wanted.before is not None:
        query = query.where(CoreDumpRow.id < wanted.before)
    return await device_refs.with_client_ids(session, query.order_by(CoreDumpRow.id.desc()).limit(wanted.limit))


async def locked(session: AsyncSession, *, after: int, limit: int) -> list[tuple[CoreDumpRow, str]]:
    """Return and lock the next dumps in any state, in the order of their ids."""
    query = _DUMPS.where(CoreDumpRow.id > after).order_by(CoreDumpRow.id).limit(limit)
    return await device_refs.with_client_ids(session, query.with_for_update(of=CoreDumpRow))


async def images_of(session: AsyncSession, elf_sha256s: Iterable[str]) -> dict[str, tuple[FirmwareImage, str]]:
    """Return, by ELF, the newest image that was built from it, and the code of its model."""
    query = (
        select(FirmwareImage, DeviceModel.code)
        .join(DeviceModel, DeviceModel.id == FirmwareImage.model_id)
        .where(one_of(FirmwareImage.elf_sha256, elf_sha256s))
        .order_by(FirmwareImage.uploaded_at)
    )
    return {image.elf_sha256: (image, code) for image, code in await session.execute(query) if image.elf_sha256}


async def device_ids(session: AsyncSession, client_ids: Iterable[str]) -> dict[str, int]:
    """Return the ids of those devices that exist, by client id, and lock them against removal."""
    query = (
        select(Device.id, DeviceModel.code, Device.key)
        .join(DeviceModel, DeviceModel.id == Device.model_id)
        .where(device_refs.AMONG, Device.enabled, Device.lifecycle == "ACTIVE")
        .order_by(Device.id)
        .with_for_update(of=Device, read=True, key_share=True)
    )
    rows = await session.execute(query, {"keys": device_refs.keys(client_ids)})
    return {device_refs.client_id(code, key): device_id for device_id, code, key in rows}


async def add_lines(session: AsyncSession, rows: list[dict[str, Any]]) -> None:
    """Store many lines at once, without those that are stored already."""
    await session.execute(insert(DeviceLogLine).on_conflict_do_nothing(), rows)


async def trim_lines(session: AsyncSession, device_id: int, *, kept: int) -> None:
    """Delete the lines of a device except the newest."""
    newest_too_many = (
        select(DeviceLogLine.id)
        .where(DeviceLogLine.device_id == device_id)
        .order_by(DeviceLogLine.id.desc())
        .offset(kept)
        .limit(1)
    )
    await session.execute(
        delete(DeviceLogLine).where(
            DeviceLogLine.device_id == device_id, DeviceLogLine.id <= newest_too_many.scalar_subquery()
        )
    )


async def forget_lines(session: AsyncSession, *, before: datetime) -> None:
    """Delete the lines that were received before this time (UTC)."""
    await session.execute(delete(DeviceLogLine).where(DeviceLogLine.received_at < before))


async def last_line(session: AsyncSession) -> int:
    """Return the id of the line that was stored last, or 0."""
    return await session.scalar(select(func.max(DeviceLogLine.id))) or 0


async def lines(session: AsyncSession, wanted: admin.LogList, *, until: int) -> list[tuple[DeviceLogLine, str]]:
    """Return up to `limit` lines with ids up to `until`, each with its device's client id.

    They begin after `after`, or are the newest, newest first.
    """
    query = (
        device_refs.owned(DeviceLogLine)
        .where(
            device_refs.selected(wanted.device, tag=wanted.tag, model=wanted.model),
            DeviceLogLine.id <= until,
            _matters(wanted.level),
        )
        .limit(wanted.limit)
    )
    if wanted.since_s is not None:
        query = query.where(DeviceLogLine.received_at >= func.now() - timedelta(seconds=wanted.since_s))
    if wanted.after is None:
        query = query.order_by(DeviceLogLine.id.desc())
    else:
        query = query.where(DeviceLogLine.id > wanted.after).order_by(DeviceLogLine.id)
    return await device_refs.with_client_ids(session, query)


def _matters(lowest: LogLevel) -> ColumnElement[bool]:
    levels = list(LogLevel)
    return DeviceLogLine.level.in_(levels[levels.index(lowest) :])
