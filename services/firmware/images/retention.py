"""Prunes old images, deletes orphaned blobs, and keeps each model's image at its stable path."""

from __future__ import annotations

import asyncio
import hashlib
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from functools import partial
from typing import Final

import structlog

from services.firmware import queries
from services.firmware.context import Firmware
from services.firmware.images import catalog
from services.firmware.images import queries as image_queries
from services.firmware.images.export import ImageExport
from shared.database.tables import FirmwareImage
from shared.errors import FleetError, NotFoundError
from shared.esp32 import image as esp32_image
from shared.runtime.periodic import periodic

log = structlog.get_logger()
EVERY_S: Final = 60.0


@dataclass(frozen=True, slots=True)
class Retention:
    """Housekeeping of images; `export` is None unless images are exported."""

    firmware: Firmware
    export: ImageExport | None

    async def run(self) -> None:
        """Run all tasks now, after each change by this process, and every EVERY_S, until cancelled."""
        await periodic(
            self._run_all, every_s=EVERY_S, wake=self.firmware.changed, on_outage="firmware.housekeeping_failed"
        )

    async def _run_all(self) -> None:
        for duty in (self._read_facts, self._prune, self._sweep, self._export_all):
            await _attempt(duty)

    async def _read_facts(self) -> None:
        """Read the facts of images that were stored before there were columns for them."""
        async with self.firmware.database.transaction() as session:
            unread = await image_queries.unread(session)
        for image in unread:
            await _attempt(partial(self._read_facts_of, image))

    async def _read_facts_of(self, unread: FirmwareImage) -> None:
        data = await self.firmware.store.read(unread.sha256, 0, unread.size_bytes)
        parsed = await asyncio.to_thread(esp32_image.parse, data)
        async with self.firmware.database.transaction() as session:
            image = await session.get(FirmwareImage, (unread.model_id, unread.sha256), with_for_update=True)
            if image is not None:
                for name, value in catalog.embedded(parsed).items():
                    setattr(image, name, value)

    async def _prune(self) -> None:
        """Delete images that are not to be kept: a device may have stopped using one, or the setting changed."""
        database, outbox, keep = self.firmware.database, self.firmware.outbox, self.firmware.settings.firmware_keep
        if keep == 0:
            return
        async with database.transaction() as session:
            codes = await image_queries.models_with_images(session, above=keep)
        for code in codes:
            async with database.transaction() as session:
                model = await queries.model(session, code)
                gone = await catalog.prune(session, outbox, model, keep=keep)
            if gone:
                log.info("firmware.pruned", model=code, versions=gone)

    async def _sweep(self) -> None:
        """Delete orphaned bytes of images, each in its own transaction, locked."""
        tried: set[str] = set()
        while True:
            async with self.firmware.database.transaction() as session:
                leftover = await image_queries.free_leftover(session, without=tried)
                if leftover is None:
                    return
                tried.add(leftover.sha256)
                if await image_queries.any_of_hash(session, leftover.sha256) is None:
                    await self.firmware.store.delete(leftover.sha256)
                await session.delete(leftover)

    async def _export_all(self) -> None:
        """Export each model's image, and repair files that were lost or changed."""
        if self.export is None:
            return
        async with self.firmware.database.transaction() as session:
            current = await image_queries.current(session)
        for code, image in current.items():
            await _attempt(partial(self._export_one, self.export, code, image))

    async def _export_one(self, export: ImageExport, code: str, image: FirmwareImage | None) -> None:
        held = await asyncio.to_thread(export.holds, code)
        if image is None and held is not None:
            await asyncio.to_thread(export.clear, code)
        elif image is not None and held != image.sha256:
            data = await self.firmware.store.read(image.sha256, 0, image.size_bytes)
            if hashlib.sha256(data).hexdigest() != image.sha256:
                raise NotFoundError(f"sha256: the stored image {image.sha256} is damaged; upload the file again")
            await asyncio.to_thread(export.put, code, data)
            log.info("firmware.exported", model=code, sha256=image.sha256)


async def _attempt(duty: Callable[[], Awaitable[None]]) -> None:
    try:
        await duty()
    except FleetError as error:
        log.warning("firmware.housekeeping_failed", reason=error.message)
