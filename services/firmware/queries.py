"""Queries on images, uploads and deliveries."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from datetime import datetime
from operator import itemgetter
from typing import Final, NamedTuple
from uuid import UUID

from sqlalchemy import ARRAY, BigInteger, Integer, Text, any_, bindparam, cast, delete, func, select
from sqlalchemy.dialects.postgresql import insert
from sqlalchemy.ext.asyncio import AsyncSession

from services.firmware.rules import FELL_BACK, REFUSED_BY_DEVICE, WITHHELD, ImageAttempt
from shared.database import device_refs
from shared.database.image_hashes import hashes_of, is_hash_of
from shared.database.tables import (
    Device,
    DeviceModel,
    FirmwareDelivery,
    FirmwareImage,
    FirmwareUpload,
    FirmwareUploadChunk,
    Presence,
    Rotation,
)
from shared.errors import NotFoundError

RUNNING_LABEL: Final = (
    select(FirmwareImage.version)
    .where(FirmwareImage.model_id == Device.model_id, is_hash_of(Presence.firmware_sha256, FirmwareImage))
    .order_by(FirmwareImage.uploaded_at.desc())
    .limit(1)
    .scalar_subquery()
)
"""The label of the image that a device of Device and Presence runs; null if that is not stored."""


async def model(session: AsyncSession, code: str) -> DeviceModel:
    """Return and lock the model of this code, or raise NotFoundError."""
    found = await session.scalar(select(DeviceModel).where(DeviceModel.code == code).with_for_update())
    if found is None:
        raise NotFoundError(f"model: there is no model {code}; add it first", model=code)
    return found


async def device(session: AsyncSession, client_id: str) -> tuple[int, DeviceModel]:
    """Return the id and the model of an enabled device, or raise NotFoundError."""
    row = (
        await session.execute(
            select(Device.id, DeviceModel)
            .join(DeviceModel, DeviceModel.id == Device.model_id)
            .where(device_refs.named(client_id), Device.enabled, Device.lifecycle == "ACTIVE")
        )
    ).one_or_none()
    if row is None:
        raise device_refs.unknown(client_id)
    return row


async def models_with_image(session: AsyncSession) -> list[str]:
    """Return the codes of the models that have a current image."""
    return list(
        await session.scalars(
            select(DeviceModel.code).where(DeviceModel.image_sha256.is_not(None)).order_by(DeviceModel.code)
        )
    )


async def devices_without_their_image(session: AsyncSession) -> list[str]:
    """Return the client ids of devices that have refused an image, or from which one was withheld."""
    rows = await session.execute(
        select(DeviceModel.code, Device.key)
        .join(Device, Device.model_id == DeviceModel.id)
        .join(FirmwareDelivery, FirmwareDelivery.device_id == Device.id)
        .where(FirmwareDelivery.stage.in_({*REFUSED_BY_DEVICE, WITHHELD, FELL_BACK}))
        .distinct()
    )
    return [device_refs.client_id(code, key) for code, key in rows]


async def secret_generations(session: AsyncSession, device_id: int) -> set[int]:
    """Return the generations of the secrets that may be in force for a device.

    While its rotation is open these are both: at SWITCHING and RESTORING either is, and after the switch the
    device still has tokens of the old one. A token of the new one exists only once Keycloak has it in force.
    """
    row = (
        await session.execute(
            # One statement: the end of a rotation must not fall between two queries.
            select(Device.secret_generation, Rotation.old_generation, Rotation.generation)
            .outerjoin(Rotation, (Rotation.device_id == Device.id) & Rotation.outcome.is_(None))
            .where(Device.id == device_id)
        )
    ).one()
    return {generation for generation in row if generation is not None}


async def online_after(session: AsyncSession, model_code: str, after: int, *, limit: int) -> list[tuple[int, str]]:
    """Return the ids and client ids of the model's next online devices, after the device id `after`."""
    rows = await session.execute(
        select(Device.id, Device.key)
        .join(DeviceModel, DeviceModel.id == Device.model_id)
        .join(Presence, Presence.device_id == Device.id)
        .where(
            DeviceModel.code == model_code,
            Device.enabled,
            Device.lifecycle == "ACTIVE",
            Presence.online,
            # Filter both tables: the planner does not infer the second condition.
            Device.id > after,
            Presence.device_id > after,
        )
        .order_by(Device.id)
        .limit(limit)
    )
    return [(device_id, device_refs.client_id(model_code, key)) for device_id, key in rows]


async def upload(session: AsyncSession, model_id: int, sha256: str) -> FirmwareUpload | None:
    """Return the open upload of this image, if there is one."""
    return await session.scalar(
        select(FirmwareUpload).where(FirmwareUpload.model_id == model_id, FirmwareUpload.sha256 == sha256)
    )


async def upload_by_id(session: AsyncSession, upload_id: UUID, *, lock: bool) -> FirmwareUpload:
    """Return an open upload, or raise NotFoundError."""
    query = select(FirmwareUpload).where(FirmwareUpload.id == upload_id)
    found = await session.scalar(query.with_for_update() if lock else query)
    if found is None:
        raise NotFoundError(f"upload_id: there is no upload {upload_id}; begin it again")
    return found


async def received(session: AsyncSession, upload_id: UUID) -> set[int]:
    """Return the offsets of the received chunks."""
    return set(
        await session.scalars(select(FirmwareUploadChunk.offset).where(FirmwareUploadChunk.upload_id == upload_id))
    )


async def assembled(session: AsyncSession, upload_id: UUID) -> bytes:
    """Return all received chunks, joined in order."""
    return b"".join(
        await session.scalars(
            select(FirmwareUploadChunk.data)
            .where(FirmwareUploadChunk.upload_id == upload_id)
            .order_by(FirmwareUploadChunk.offset)
        )
    )


async def store_chunk(session: AsyncSession, upload_id: UUID, offset: int, data: bytes) -> None:
    """Store a chunk; idempotent."""
    await session.execute(
        insert(FirmwareUploadChunk)
        .values(upload_id=upload_id, offset=offset, data=data)
        .on_conflict_do_update(
            index_elements=[FirmwareUploadChunk.upload_id, FirmwareUploadChunk.offset], set_={"data": data}
        )
    )


async def forget_uploads(session: AsyncSession, *, before: datetime) -> None:
    """Delete uploads that were begun before this time (UTC) and never finished."""
    await session.execute(delete(FirmwareUpload).where(FirmwareUpload.created_at < before))


async def delivery(session: AsyncSession, device_id: int, sha256: str) -> FirmwareDelivery | None:
    """Return and lock a device's progress with an image."""
    return await session.get(FirmwareDelivery, (device_id, sha256), with_for_update=True)


class Reporter(NamedTuple):
    """A device that may report."""

    model: str
    device_id: int
    model_id: int


class Delivered(NamedTuple):
    """A device's progress with an image."""

    device_id: int
    sha256: str
    stage: str
    percent: int | None = None
    error: str | None = None


# Built once: building a statement takes as long as executing it.
_REPORTERS: Final = (
    select(DeviceModel.code, Device.key, Device.id, Device.model_id)
    .join(DeviceModel, DeviceModel.id == Device.model_id)
    .where(device_refs.AMONG, Device.enabled, Device.lifecycle == "ACTIVE")
)
_IMAGES: Final = bindparam("sha256s", type_=ARRAY(Text))
_IMAGES_OF_MODELS: Final = select(FirmwareImage.model_id, FirmwareImage.sha256).where(
    FirmwareImage.sha256 == any_(_IMAGES)
)
# Always in the same order, here and below: two batches that lock the same rows must not deadlock.
_ORDER: Final = itemgetter(0, 1)
_STAGES: Final = (
    select(FirmwareDelivery.device_id, FirmwareDelivery.sha256, FirmwareDelivery.stage)
    .where(
        FirmwareDelivery.device_id == any_(bindparam("device_ids", type_=ARRAY(BigInteger))),
        FirmwareDelivery.sha256 == any_(_IMAGES),
    )
    .order_by(FirmwareDelivery.device_id, FirmwareDelivery.sha256)
    .with_for_update()
)
_INSERT: Final = insert(FirmwareDelivery)
_SET_DELIVERIES: Final = _INSERT.on_conflict_do_update(
    index_elements=[FirmwareDelivery.device_id, FirmwareDelivery.sha256],
    set_={
        "stage": _INSERT.excluded.stage,
        "percent": _INSERT.excluded.percent,
        "error": _INSERT.excluded.error,
        "fallbacks": FirmwareDelivery.fallbacks + cast(_INSERT.excluded.stage == FELL_BACK, Integer),
        "updated_at": func.now(),
    },
)
_ATTEMPTS: Final = (
    select(
        DeviceModel.code, Device.key, Device.id, FirmwareDelivery.stage, FirmwareDelivery.updated_at, FirmwareImage
    )
    .select_from(FirmwareDelivery)
    .join(Device, Device.id == FirmwareDelivery.device_id)
    .join(DeviceModel, DeviceModel.id == Device.model_id)
    .join(
        FirmwareImage,
        (FirmwareImage.model_id == Device.model_id) & (FirmwareImage.sha256 == FirmwareDelivery.sha256),
    )
    .where(device_refs.AMONG, Device.enabled, Device.lifecycle == "ACTIVE")
    .order_by(FirmwareDelivery.updated_at.desc())
)


async def attempts(session: AsyncSession, client_id: str) -> dict[int, list[ImageAttempt]]:
    """Return the attempts of a device with images, newest first, by its id; empty if there are none."""
    found: dict[int, list[ImageAttempt]] = {}
    rows = await session.execute(_ATTEMPTS, {"keys": device_refs.keys([client_id])})
    for code, key, device_id, stage, since, image in rows:
        # A client id with the key of another model's device names no device.
        if device_refs.client_id(code, key) == client_id:
            attempt = ImageAttempt(image.sha256, hashes_of(image), stage, since)
            found.setdefault(device_id, []).append(attempt)
    return found


async def reporters(session: AsyncSession, client_ids: Iterable[str]) -> dict[str, Reporter]:
    """Return the enabled devices among these, by client id."""
    rows = await session.execute(_REPORTERS, {"keys": device_refs.keys(client_ids)})
    return {device_refs.client_id(code, key): Reporter(code, *ids) for code, key, *ids in rows}


async def images_of_models(session: AsyncSession, sha256s: Iterable[str]) -> set[tuple[int, str]]:
    """Return the stored images among these, each with the id of every model that has it."""
    rows = await session.execute(_IMAGES_OF_MODELS, {"sha256s": list(sha256s)})
    return {(model_id, sha256) for model_id, sha256 in rows}


async def stages(session: AsyncSession, deliveries: Sequence[tuple[int, str]]) -> dict[tuple[int, str], str]:
    """Return and lock the stages of deliveries, each a device's id and an image's SHA-256."""
    device_ids, sha256s = map(list, zip(*deliveries, strict=True))
    rows = await session.execute(_STAGES, {"device_ids": device_ids, "sha256s": sha256s})
    return {(device_id, sha256): stage for device_id, sha256, stage in rows}


async def set_deliveries(session: AsyncSession, delivered: Sequence[Delivered]) -> None:
    """Store devices' progress with images; of two for the same pair, the last one counts."""
    if delivered:
        await session.execute(_SET_DELIVERIES, [one._asdict() for one in sorted(delivered, key=_ORDER)])
