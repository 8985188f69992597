"""Operations on stored images: list, show, release, withdraw, pin and delete."""

from __future__ import annotations

import base64
from dataclasses import dataclass

from services.firmware import queries
from services.firmware.context import Firmware
from services.firmware.images import catalog
from services.firmware.images import queries as image_queries
from services.firmware.rules import Uses
from shared.database.tables import DeviceModel, FirmwareImage
from shared.errors import ConflictError, InvalidInputError, NotFoundError
from shared.protocol import admin, events
from shared.server.rpc import RequestContext


@dataclass(frozen=True, slots=True)
class ImageService:
    """The operations of admins on stored images."""

    firmware: Firmware

    async def list_page(self, context: RequestContext, request: admin.ImageList) -> admin.Images:
        """Return a page of images."""
        if request.model is not None:
            await queries.model(context.session, request.model)
        rows = await image_queries.page(context.session, request)
        following = f"{rows[-1][1].code}/{rows[-1][0].sha256}" if len(rows) == request.limit else None
        return admin.Images(images=await catalog.views(context.session, rows), next=following)

    async def show(self, context: RequestContext, request: admin.ImageRef) -> admin.ImageDetails:
        """Return one image and its uses."""
        model, image = await _find(context, request)
        view = await catalog.view(context.session, image, model)
        uses = (await catalog.uses(context.session, model)).get(image.sha256, Uses())
        return admin.ImageDetails(
            **view.model_dump(),
            uploaded_by=image.uploaded_by,
            running=uses.running,
            delivering=uses.delivering,
            rollout=uses.rollout,
        )

    async def read(self, context: RequestContext, request: admin.ImageRead) -> admin.ImageBytes:
        """Return bytes of an image."""
        image = await image_queries.any_of_hash(context.session, request.sha256)
        if image is None:
            raise NotFoundError(f"sha256: there is no image {request.sha256}")
        left = image.size_bytes - request.offset
        if left <= 0:
            raise InvalidInputError(
                f"offset: must be less than the image's {image.size_bytes} bytes, is {request.offset}"
            )
        length = min(request.length, left)
        data = await self.firmware.store.read(image.sha256, request.offset, length)
        if len(data) != length:
            raise NotFoundError(f"sha256: the stored image {image.sha256} is damaged: bytes are missing")
        return admin.ImageBytes(data=base64.b64encode(data))

    async def release(self, context: RequestContext, request: admin.ImageRef) -> admin.ImageView:
        """Make an image its model's image, also an older one."""
        model, image = await _find(context, request)
        await catalog.release(self.firmware, context, model, image)
        return await catalog.view(context.session, image, model)

    async def withdraw(self, context: RequestContext, request: admin.Withdraw) -> admin.Removed:
        """Leave the model without an image, or raise ConflictError if it has none."""
        model = await queries.model(context.session, request.model)
        if model.image_sha256 is None:
            raise ConflictError(f"model: {model.code} has no image to withdraw")
        image = await context.session.get_one(FirmwareImage, (model.id, model.image_sha256))
        model.image_sha256 = None
        facts = {"version": image.version, "sha256": image.sha256}
        context.audit("firmware.withdraw", model.code, before=facts)
        said = events.ReleaseFacts(model=model.code, version=image.version)
        self.firmware.outbox.emit(context.session, events.FIRMWARE_WITHDRAWN, None, said)
        self.firmware.prune_soon(context.session)
        return admin.Removed(removed=image.version)

    async def pin(self, context: RequestContext, request: admin.ImageRef) -> admin.ImageView:
        """Exempt an image from retention."""
        return await self._set_pinned(context, request, pinned=True)

    async def unpin(self, context: RequestContext, request: admin.ImageRef) -> admin.ImageView:
        """End the exemption from retention."""
        return await self._set_pinned(context, request, pinned=False)

    async def delete(self, context: RequestContext, request: admin.ImageRef) -> admin.Removed:
        """Delete an image, or raise ConflictError with its uses."""
        model, image = await _find(context, request)
        uses = (await catalog.uses(context.session, model)).get(image.sha256, Uses())
        if uses.reasons():
            raise ConflictError(
                f"version: {model.code} {image.version} is in use: {'; '.join(uses.reasons())}",
                current=uses.current,
                running=uses.running,
                delivering=uses.delivering,
                rollout=uses.rollout,
            )
        await catalog.delete(context.session, self.firmware.outbox, model, image, actor=context.account)
        self.firmware.prune_soon(context.session)
        return admin.Removed(removed=image.version)

    async def _set_pinned(
        self, context: RequestContext, request: admin.ImageRef, *, pinned: bool
    ) -> admin.ImageView:
        model, image = await _find(context, request)
        if image.pinned != pinned:
            image.pinned = pinned
            facts = catalog.facts(model, image)
            context.audit("firmware.pin" if pinned else "firmware.unpin", model.code, after=facts.to_data())
            event = events.FIRMWARE_PINNED if pinned else events.FIRMWARE_UNPINNED
            self.firmware.outbox.emit(context.session, event, None, facts)
        return await catalog.view(context.session, image, model)


async def _find(context: RequestContext, request: admin.ImageRef) -> tuple[DeviceModel, FirmwareImage]:
    """Return the model, locked against changes of its images, and its image of this version."""
    model = await queries.model(context.session, request.model)
    image = await image_queries.image_of_version(context.session, model, request.version)
    if image is None:
        raise NotFoundError(
            f"version: {model.code} has no image {request.version}", model=model.code, image=request.version
        )
    return model, image
