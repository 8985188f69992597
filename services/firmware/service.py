"""Delivery: which image a device is offered, its pieces, and what it reports."""

from __future__ import annotations

from dataclasses import dataclass

import structlog
from sqlalchemy.ext.asyncio import AsyncSession

from services.firmware import db, domain
from services.firmware.store import Store
from shared import messages, topics
from shared.errors import ConflictError, FleetError, NotFoundError
from shared.messages import FirmwareStage
from shared.outbox import Outbox
from shared.postgres import Database
from shared.requests import Caller
from shared.schema import DeviceModel, FirmwareImage, Presence
from shared.settings import FirmwareSettings

log = structlog.get_logger()


class ImageNotForDeviceError(FleetError):
    """A device may not have this image, and asking again will not help."""

    code = "image_not_for_device"


class ImageUnknownError(ImageNotForDeviceError):
    """There is no such image, or none at all."""

    code = "image_unknown"


@dataclass(frozen=True, slots=True)
class Firmware:
    """The service's tools, and what it does with them."""

    settings: FirmwareSettings
    database: Database
    store: Store
    outbox: Outbox

    async def answer_check(self, client_id: str, check: messages.FirmwareCheck) -> messages.FirmwareOffer:
        """Return the image that a device should fetch, or that it is up to date."""
        running = domain.Running(check.sha256, check.chip, check.project, check.slot_size_bytes)
        async with self.database.transaction() as session:
            device_id, model = await db.device(session, client_id)
            if model.image_sha256 is None:
                return messages.FirmwareOffer(request_id=check.request_id, up_to_date=True)
            image = await session.get_one(FirmwareImage, model.image_sha256)
            delivery = await db.delivery(session, device_id, image.sha256)
            stage = delivery.stage if delivery else None
            try:
                wanted = domain.wants(_candidate(image, stage), running)
            except ConflictError as error:
                log.warning("firmware.withheld", client_id=client_id, sha256=image.sha256, reason=error.message)
                wanted = False
            if not wanted:
                return messages.FirmwareOffer(request_id=check.request_id, up_to_date=True)
            if stage is None or stage in domain.ENDS:
                await db.set_delivery(session, device_id, image.sha256, stage=domain.OFFERED)
                self.outbox.tell(session, "firmware/offered", client_id, {"version": image.version})
            return self._offer(image, check.request_id)

    async def read_chunk(self, client_id: str, request: messages.FirmwareChunkRequest) -> bytes:
        """Return a piece of an image, or raise ImageNotForDeviceError."""
        async with self.database.transaction() as session:
            await self.permitted_image(session, *await db.device(session, client_id), request.sha256)
        return await self.read(request.sha256, request.offset, request.length)

    async def permitted_image(
        self, session: AsyncSession, device_id: int, model: DeviceModel, sha256: str
    ) -> FirmwareImage:
        """Return the image if this device may fetch it, by whichever road, or raise ImageNotForDeviceError."""
        image = await session.get(FirmwareImage, sha256)
        if image is None:
            raise ImageUnknownError("there is no such image for this device")
        if image.model_id != model.id:
            raise ImageNotForDeviceError("there is no such image for this device")
        if image.sha256 != model.image_sha256:
            delivery = await db.delivery(session, device_id, image.sha256)
            if delivery is None or delivery.stage in domain.REFUSED_BY_DEVICE:
                raise ImageNotForDeviceError("this image was not offered to this device")
        return image

    async def current_image(self, session: AsyncSession, device_id: int, model: DeviceModel) -> FirmwareImage:
        """Return the image that this device should have, or raise ImageNotForDeviceError.

        What it must not have because of what it said of itself last is refused, as it is not offered either.
        """
        if model.image_sha256 is None:
            raise ImageUnknownError("the model has no image")
        image = await session.get_one(FirmwareImage, model.image_sha256)
        delivery = await db.delivery(session, device_id, image.sha256)
        running = _running(await session.get(Presence, device_id))
        try:
            domain.wants(_candidate(image, delivery.stage if delivery else None), running)
        except ConflictError as error:
            raise ImageNotForDeviceError(error.message) from error
        return image

    async def read(self, sha256: str, offset: int, length: int) -> bytes:
        """Return a piece of an image that is permitted, or raise ImageUnknownError if it is gone."""
        try:
            return await self.store.read(sha256, offset, length)
        except NotFoundError as error:
            raise ImageUnknownError("the image is gone") from error

    async def record_report(self, client_id: str, report: messages.FirmwareReport) -> None:
        """Store how far a device has come with an image."""
        async with self.database.transaction() as session:
            device_id, model = await db.device(session, client_id)
            image = await session.get(FirmwareImage, report.sha256)
            if image is None or image.model_id != model.id:
                raise NotFoundError(f"sha256: {model.code} has no image {report.sha256}")
            present = await db.delivery(session, device_id, report.sha256)
            if not domain.counts(present.stage if present else None, report.stage):
                return
            await db.set_delivery(
                session,
                device_id,
                report.sha256,
                stage=report.stage,
                percent=report.percent,
                error=report.error,
            )
            changed = present is None or present.stage != report.stage
            if changed or report.stage == FirmwareStage.DOWNLOADING:
                self.outbox.tell(session, "firmware/reported", client_id, report.model_dump(mode="json"))

    async def release(self, caller: Caller, model: DeviceModel, image: FirmwareImage) -> None:
        """Make an image its model's image and notify the devices online; the others ask when they come."""
        if model.image_sha256 == image.sha256:
            return
        model.image_sha256 = image.sha256
        caller.audit("firmware.release", model.code, after={"version": image.version, "sha256": image.sha256})
        self.outbox.tell(caller.session, "firmware/released", data={"model": model.code, "version": image.version})
        for client_id, presence, stage in await db.devices_online(caller.session, model.id, image.sha256):
            try:
                if domain.wants(_candidate(image, stage), _running(presence)):
                    self.outbox.put(
                        caller.session, topics.FIRMWARE_OFFER, self._offer(image, None), client_id=client_id
                    )
            except ConflictError as error:
                log.warning("firmware.withheld", client_id=client_id, sha256=image.sha256, reason=error.message)

    def _offer(self, image: FirmwareImage, request_id: str | None) -> messages.FirmwareOffer:
        return messages.FirmwareOffer(
            request_id=request_id,
            sha256=image.sha256,
            size_bytes=image.size_bytes,
            version=image.version,
            chunk_size_bytes=self.settings.chunk_size_bytes,
            window=self.settings.window,
            url=self.settings.http_url and f"{self.settings.http_url.rstrip('/')}/firmware/{image.sha256}",
        )


def _candidate(image: FirmwareImage, stage: str | None) -> domain.Candidate:
    return domain.Candidate(image.sha256, image.size_bytes, image.chip, image.project, stage)


def _running(presence: Presence | None) -> domain.Running:
    """Return what a device said of itself last."""
    status = presence.status or {} if presence else {}
    return domain.Running(
        presence.firmware_sha256 if presence else None,
        status.get("chip"),
        status.get("project"),
        status.get("slot_size_bytes"),
    )
