"""Uploads: an image arrives in chunks, is checked as a whole, stored, and released."""

from __future__ import annotations

import asyncio
import hashlib
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Final
from uuid import uuid4

from sqlalchemy.ext.asyncio import AsyncSession

from services.firmware import queries, rules
from services.firmware.context import Firmware
from services.firmware.images import catalog
from services.firmware.images import queries as image_queries
from shared.database.tables import DeviceModel, FirmwareImage, FirmwareUpload
from shared.errors import ConflictError, InvalidInputError
from shared.esp32 import image as esp32_image
from shared.protocol import admin, events
from shared.server.rpc import RequestContext

CHUNK_SIZE_BYTES: Final = 32 * 1024
FORGOTTEN_AFTER: Final = timedelta(days=1)


@dataclass(frozen=True, slots=True)
class Uploads:
    """The operations of admins that upload an image."""

    firmware: Firmware

    async def begin(self, context: RequestContext, request: admin.UploadBegin) -> admin.Upload:
        """Begin an upload, or continue one; the answer has the missing chunks."""
        session = context.session
        await queries.forget_uploads(session, before=datetime.now(UTC) - FORGOTTEN_AFTER)
        model = await queries.model(session, request.model)
        _check_size(request.size_bytes, model)
        upload = await queries.upload(session, model.id, request.sha256)
        if upload is None:
            upload = FirmwareUpload(
                id=uuid4(), model_id=model.id, sha256=request.sha256, size_bytes=request.size_bytes
            )
            session.add(upload)
        elif upload.size_bytes != request.size_bytes:
            raise ConflictError(f"size_bytes: the upload was begun with {upload.size_bytes}")
        upload.version = request.version
        stored = await session.get(FirmwareImage, (model.id, request.sha256))
        # Uploading the same file again repairs an image whose bytes are missing or damaged.
        complete = stored is not None and await self.firmware.store.fault(request.sha256) is None
        wanted = [] if complete else rules.offsets(request.size_bytes, CHUNK_SIZE_BYTES)
        there = await queries.received(session, upload.id)
        return admin.Upload(
            upload_id=upload.id,
            chunk_size_bytes=CHUNK_SIZE_BYTES,
            missing=[offset for offset in wanted if offset not in there],
        )

    async def store_chunk(self, context: RequestContext, request: admin.UploadChunk) -> admin.Received:
        """Store a chunk."""
        upload = await queries.upload_by_id(context.session, request.upload_id, lock=False)
        rules.check_piece(
            request.offset, len(request.data), size_bytes=upload.size_bytes, chunk_size_bytes=CHUNK_SIZE_BYTES
        )
        await queries.store_chunk(context.session, upload.id, request.offset, request.data)
        return admin.Received()

    async def finish(self, context: RequestContext, request: admin.UploadFinish) -> admin.ImageView:
        """Check and store the whole image; a refused upload and its chunks are deleted only when they expire."""
        session = context.session
        upload = await queries.upload_by_id(session, request.upload_id, lock=True)
        model = await session.get_one(DeviceModel, upload.model_id, with_for_update=True)
        stored = await session.get(FirmwareImage, (model.id, upload.sha256))
        if stored is None:
            await catalog.check_signature(session, model, upload.sha256, request.signature)
            stored = await self._store(context, upload, model, request.signature)
        elif upload.version not in (None, stored.version):
            raise ConflictError(f"version: {model.code} has this image already, as {stored.version}")
        else:
            if await self.firmware.store.fault(upload.sha256) is not None:
                await self.firmware.store.put(upload.sha256, await _assembled(session, upload))
            await self._sign(context, model, stored, request.signature)
        await session.delete(upload)
        if request.release:
            await catalog.release(self.firmware, context, model, stored)
        await catalog.prune(session, self.firmware.outbox, model, keep=self.firmware.settings.firmware_keep)
        self.firmware.prune_soon(session)
        return await catalog.view(session, stored, model)

    async def _sign(
        self, context: RequestContext, model: DeviceModel, stored: FirmwareImage, signature: bytes | None
    ) -> None:
        """Add or replace the signature of a stored image, as after a change of keys."""
        wanted = stored.signature if signature is None else signature
        await catalog.check_signature(context.session, model, stored.sha256, wanted)
        if wanted != stored.signature:
            stored.signature = wanted
            facts = catalog.facts(model, stored)
            context.audit("firmware.sign", model.code, after=facts.to_data())
            self.firmware.outbox.emit(context.session, events.FIRMWARE_SIGNED, None, facts)

    async def _store(
        self, context: RequestContext, upload: FirmwareUpload, model: DeviceModel, signature: bytes | None
    ) -> FirmwareImage:
        session = context.session
        data = await _assembled(session, upload)
        parsed = await asyncio.to_thread(esp32_image.parse, data)
        esp32_image.check_for(
            parsed, chip=model.chip, slot_size_bytes=model.slot_size_bytes, model_code=model.code
        )
        catalog.check_secure_boot(model, catalog.secure_boot_keys(parsed))
        label = await _label(session, model, upload, parsed)
        await self._announce(session, upload.sha256)
        await self.firmware.store.put(upload.sha256, data)
        stored = FirmwareImage(
            sha256=upload.sha256,
            model_id=model.id,
            version=label,
            size_bytes=upload.size_bytes,
            uploaded_by=context.account,
            signature=signature,
            **catalog.embedded(parsed),
        )
        session.add(stored)
        await session.flush()
        facts = catalog.facts(model, stored)
        context.audit("firmware.upload", model.code, after=facts.to_data())
        self.firmware.outbox.emit(session, events.FIRMWARE_UPLOADED, None, facts)
        return stored

    async def _announce(self, session: AsyncSession, sha256: str) -> None:
        """Record a leftover in a transaction of its own; the image's own transaction deletes the record.

        After a crash the record remains, and so the bytes are deleted; until then nobody else may delete them.
        """
        while not await image_queries.remove_leftover(session, sha256):
            async with self.firmware.database.transaction() as other:
                await image_queries.record_leftover(other, sha256)


def _check_size(size_bytes: int, model: DeviceModel) -> None:
    if size_bytes > model.slot_size_bytes:
        raise InvalidInputError(
            f"size_bytes: the image has {size_bytes}, the slot of {model.code} {model.slot_size_bytes}"
        )


async def _assembled(session: AsyncSession, upload: FirmwareUpload) -> bytes:
    """Return the bytes of an upload, or raise InvalidInputError if they are not those that were announced."""
    data = await queries.assembled(session, upload.id)
    if len(data) != upload.size_bytes:
        raise InvalidInputError(f"upload: {upload.size_bytes - len(data)} bytes are missing; begin it again")
    if hashlib.sha256(data).hexdigest() != upload.sha256:
        raise InvalidInputError("sha256: the chunks make another file than the one announced")
    return data


async def _label(
    session: AsyncSession, model: DeviceModel, upload: FirmwareUpload, parsed: esp32_image.Image
) -> str:
    """Return the label of a new image, or raise ConflictError if another one has it."""
    label = esp32_image.label(parsed, upload.version)
    if await image_queries.image_of_version(session, model, label) is not None:
        hint = (
            ""
            if upload.version
            else "; every build may embed the same version: name this one with --version LABEL"
        )
        raise ConflictError(f"version: {model.code} already has another image {label}{hint}")
    return label
