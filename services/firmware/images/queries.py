"""Queries on stored images: their uses, signing keys, and leftovers."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from datetime import timedelta
from typing import Final

from sqlalchemy import and_, delete, func, or_, select, tuple_, update
from sqlalchemy.dialects.postgresql import insert
from sqlalchemy.ext.asyncio import AsyncSession
from sqlalchemy.orm import aliased

from services.firmware import rules
from services.firmware.rules import Uses
from shared.database.arrays import one_of
from shared.database.image_hashes import hashes_of
from shared.database.tables import (
    Device,
    DeviceModel,
    FirmwareDelivery,
    FirmwareImage,
    FirmwareKey,
    FirmwareLeftover,
    Presence,
    Rollout,
)
from shared.errors import NotFoundError
from shared.protocol import admin

DELIVERY_LIVES: Final = timedelta(days=1)
"""A delivery without a report for this long does not count: the device checks again when it connects."""


async def page(session: AsyncSession, request: admin.ImageList) -> list[tuple[FirmwareImage, DeviceModel]]:
    """Return a page of images with their models, newest first, or raise NotFoundError for an unknown `after`."""
    query = (
        select(FirmwareImage, DeviceModel)
        .join(DeviceModel, DeviceModel.id == FirmwareImage.model_id)
        .order_by(FirmwareImage.uploaded_at.desc(), FirmwareImage.sha256, FirmwareImage.model_id)
        .limit(request.limit)
    )
    if request.model is not None:
        query = query.where(DeviceModel.code == request.model)
    if request.after is not None:
        code, _, sha256 = request.after.partition("/")
        last = await session.scalar(
            select(FirmwareImage)
            .join(DeviceModel, DeviceModel.id == FirmwareImage.model_id)
            .where(DeviceModel.code == code, FirmwareImage.sha256 == sha256)
        )
        if last is None:
            raise NotFoundError(f"after: there is no image {request.after} any more; begin the list again")
        at, key = FirmwareImage.uploaded_at, tuple_(FirmwareImage.sha256, FirmwareImage.model_id)
        query = query.where(
            or_(at < last.uploaded_at, and_(at == last.uploaded_at, key > (last.sha256, last.model_id)))
        )
    return [(image, model) for image, model in await session.execute(query)]


async def image_of_version(session: AsyncSession, model: DeviceModel, version: str) -> FirmwareImage | None:
    """Return the model's image of this version, if there is one."""
    return await session.scalar(
        select(FirmwareImage).where(FirmwareImage.model_id == model.id, FirmwareImage.version == version)
    )


async def of_model(session: AsyncSession, model: DeviceModel) -> list[FirmwareImage]:
    """Return a model's images, newest first."""
    return list(
        await session.scalars(
            select(FirmwareImage)
            .where(FirmwareImage.model_id == model.id)
            .order_by(FirmwareImage.uploaded_at.desc(), FirmwareImage.sha256)
        )
    )


async def all_with_models(session: AsyncSession) -> list[tuple[FirmwareImage, str]]:
    """Return all images, each with the code of its model."""
    rows = await session.execute(
        select(FirmwareImage, DeviceModel.code)
        .join(DeviceModel, DeviceModel.id == FirmwareImage.model_id)
        .order_by(DeviceModel.code, FirmwareImage.uploaded_at)
    )
    return list(rows.tuples())


async def unread(session: AsyncSession) -> list[FirmwareImage]:
    """Return the images whose own facts have not been read yet."""
    return list(await session.scalars(select(FirmwareImage).where(FirmwareImage.embedded_version.is_(None))))


async def models_with_images(session: AsyncSession, *, above: int) -> list[str]:
    """Return the codes of the models that have more than so many images."""
    counted = select(FirmwareImage.model_id).group_by(FirmwareImage.model_id).having(func.count() > above)
    query = select(DeviceModel.code).where(DeviceModel.id.in_(counted)).order_by(DeviceModel.code)
    return list(await session.scalars(query))


async def current(session: AsyncSession) -> dict[str, FirmwareImage | None]:
    """Return the image of each model, by its code; None for a model without."""
    rows = await session.execute(
        select(DeviceModel.code, FirmwareImage).outerjoin(
            FirmwareImage,
            (FirmwareImage.model_id == DeviceModel.id) & (FirmwareImage.sha256 == DeviceModel.image_sha256),
        )
    )
    return dict(rows.all())


async def uses(session: AsyncSession, model: DeviceModel, rollouts: Mapping[str, int]) -> dict[str, Uses]:
    """Return the uses of a model's images, by SHA-256; an image that is absent is not in use.

    `rollouts` are those that need an image.
    """
    running = await session.execute(
        select(Presence.firmware_sha256, func.count())
        .join(Device, Device.id == Presence.device_id)
        .where(Device.model_id == model.id, Presence.firmware_sha256.is_not(None))
        .group_by(Presence.firmware_sha256)
    )
    newer = aliased(FirmwareDelivery)
    superseded = (
        select(newer.device_id)
        .where(
            newer.device_id == FirmwareDelivery.device_id,
            newer.updated_at > FirmwareDelivery.updated_at,
            newer.stage != rules.WITHHELD,
        )
        .exists()
    )
    delivering = await session.execute(
        select(FirmwareDelivery.sha256, func.count())
        .join(Device, Device.id == FirmwareDelivery.device_id)
        .where(
            Device.model_id == model.id,
            FirmwareDelivery.stage.not_in({*rules.ENDS, rules.WITHHELD}),
            FirmwareDelivery.updated_at > func.now() - DELIVERY_LIVES,
            ~superseded,
        )
        .group_by(FirmwareDelivery.sha256)
    )
    said: dict[str | None, int] = dict(running.all())
    runs = {
        image.sha256: count
        for image in await of_model(session, model)
        if (count := sum(said.get(one, 0) for one in hashes_of(image)))
    }
    fetched: dict[str, int] = dict(delivering.all())
    named = {*runs, *fetched, *rollouts, *([model.image_sha256] if model.image_sha256 else [])}
    return {
        sha256: Uses(
            current=sha256 == model.image_sha256,
            running=runs.get(sha256, 0),
            delivering=fetched.get(sha256, 0),
            rollout=rollouts.get(sha256),
        )
        for sha256 in named
    }


async def delete_image(session: AsyncSession, image: FirmwareImage) -> None:
    """Delete an image's row and its deliveries, except failures, and record its bytes as a leftover."""
    await session.execute(
        delete(FirmwareDelivery).where(
            FirmwareDelivery.device_id == Device.id,
            Device.model_id == image.model_id,
            FirmwareDelivery.sha256 == image.sha256,
            FirmwareDelivery.stage.not_in(rules.REFUSED_BY_DEVICE),
        )
    )
    of_image = (Rollout.model_id == image.model_id, Rollout.sha256 == image.sha256)
    await session.execute(update(Rollout).where(*of_image).values(sha256=None))
    await record_leftover(session, image.sha256)
    await session.delete(image)
    await session.flush()


async def any_of_hash(session: AsyncSession, sha256: str) -> FirmwareImage | None:
    """Return the image with these bytes, of whatever model, if there is one."""
    return await session.scalar(select(FirmwareImage).where(FirmwareImage.sha256 == sha256).limit(1))


async def orphans(session: AsyncSession, sha256s: Iterable[str]) -> list[str]:
    """Return those of these that no image has, and that nobody works on or has recorded as a leftover."""
    known = set(await session.scalars(select(FirmwareImage.sha256).union(select(FirmwareLeftover.sha256))))
    return sorted(set(sha256s) - known)


async def record_leftover(session: AsyncSession, sha256: str) -> None:
    """Record that the store may have bytes that belong to no image."""
    await session.execute(insert(FirmwareLeftover).values(sha256=sha256).on_conflict_do_nothing())


async def remove_leftover(session: AsyncSession, sha256: str) -> bool:
    """Delete such a record, locked until the commit; return False if there is none."""
    taken = await session.scalar(
        delete(FirmwareLeftover).where(FirmwareLeftover.sha256 == sha256).returning(FirmwareLeftover.sha256)
    )
    return taken is not None


async def free_leftover(session: AsyncSession, *, without: Iterable[str]) -> FirmwareLeftover | None:
    """Return and lock the oldest record that nobody has locked, if there is one."""
    return await session.scalar(
        select(FirmwareLeftover)
        .where(FirmwareLeftover.sha256.not_in(list(without)))
        .order_by(FirmwareLeftover.since)
        .limit(1)
        .with_for_update(skip_locked=True)
    )


async def keys(session: AsyncSession, model_ids: Iterable[int]) -> dict[int, list[FirmwareKey]]:
    """Return the keys that models trust, oldest first; a model without keys is absent."""
    rows = await session.scalars(
        select(FirmwareKey)
        .where(one_of(FirmwareKey.model_id, model_ids))
        .order_by(FirmwareKey.created_at, FirmwareKey.fingerprint)
    )
    trusted: dict[int, list[FirmwareKey]] = {}
    for key in rows:
        trusted.setdefault(key.model_id, []).append(key)
    return trusted
