"""Decides which image a device is offered and may fetch."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime

import structlog
from sqlalchemy.ext.asyncio import AsyncSession

from services.firmware import queries, rules
from services.firmware.assignment import progress, prospects, rollout_devices
from services.firmware.assignment.prospects import Prospect
from services.firmware.assignment.rollout_devices import ImageStep
from services.firmware.assignment.rollout_states import DeviceStep
from services.firmware.context import Firmware
from services.firmware.queries import Delivered
from shared.database.tables import DeviceModel, FirmwareImage
from shared.errors import FleetError, NotFoundError
from shared.protocol import admin, events, messages
from shared.server.rpc import RequestContext

log = structlog.get_logger()


class ImageNotForDeviceError(FleetError):
    """A device must not have this image; a retry will not help."""

    code = "image_not_for_device"


class ImageUnknownError(ImageNotForDeviceError):
    """The image does not exist, or the model has none."""

    code = "image_unknown"


@dataclass(frozen=True, slots=True)
class Assignment:
    """Decides which image a device is offered and may fetch."""

    firmware: Firmware

    async def answer_check(
        self, client_id: str, check: messages.FirmwareCheck, received_at: datetime
    ) -> messages.FirmwareOffer:
        """Return the offer of the image that a device should fetch, or that it is up to date."""
        reported = rules.ReportedRun(check.sha256, received_at)
        async with self.firmware.database.transaction() as session:
            await progress.record_lost(session, self.firmware.outbox, client_id, reported)
            prospect = await prospects.prospect(session, client_id, check=check)
            if prospect.image is not None:
                if prospect.runs_it:
                    runs_it = ImageStep(prospect.device_id, prospect.image.sha256, DeviceStep.RUNS_IT)
                    await rollout_devices.record(session, [runs_it])
                if await self._offers(session, prospect, prospect.image):
                    return self.offer_of(prospect.image, check.request_id)
        time = messages.server_time(datetime.now(UTC))
        return messages.FirmwareOffer(request_id=check.request_id, up_to_date=True, time=time)

    async def notice(self, client_id: str) -> messages.FirmwareOffer | None:
        """Return the notice of a device's image, or None if it runs it, has begun with it or must not have it."""
        async with self.firmware.database.transaction() as session:
            prospect = await prospects.prospect(session, client_id)
            image = prospect.image
            if image is None or prospect.stage not in rules.NOT_BEGUN:
                return None
            return self.offer_of(image, None) if await self._offers(session, prospect, image) else None

    async def admit(self, client_id: str, sha256: str) -> int:
        """Return the size in bytes of an image that a device may fetch, or raise ImageNotForDeviceError."""
        async with self.firmware.database.transaction() as session:
            try:
                device_id, model = await queries.device(session, client_id)
            except NotFoundError as error:
                raise ImageNotForDeviceError("there is no such device, or it is disabled") from error
            return (await self.permitted_image(session, device_id, model, sha256)).size_bytes

    async def permitted_image(
        self, session: AsyncSession, device_id: int, model: DeviceModel, sha256: str
    ) -> FirmwareImage:
        """Return the image if this device may fetch it, over MQTT or HTTP, or raise ImageNotForDeviceError."""
        image = await session.get(FirmwareImage, (model.id, sha256))
        if image is None:
            raise ImageUnknownError("there is no such image for this device")
        delivery = await queries.delivery(session, device_id, sha256)
        if delivery is None:
            if sha256 != model.image_sha256:
                raise ImageNotForDeviceError("this image was not offered to this device")
        elif delivery.stage in rules.REFUSED_BY_DEVICE:
            raise ImageNotForDeviceError(f"the device has had this image before: {delivery.stage}")
        elif delivery.stage == rules.WITHHELD:
            raise ImageNotForDeviceError("the image is withheld from this device")
        if sha256 != model.image_sha256 and await rollout_devices.was_skipped(session, device_id, sha256):
            raise ImageNotForDeviceError("a rollout has left this device out")
        return image

    async def current_image(self, session: AsyncSession, client_id: str) -> FirmwareImage:
        """Return the image that this device should have, or raise ImageNotForDeviceError.

        An image that does not fit the device's last status is refused, as it is not offered either.
        """
        prospect = await prospects.prospect(session, client_id)
        if prospect.image is None:
            raise ImageUnknownError("the model has no image")
        if prospect.refusal is not None:
            raise ImageNotForDeviceError(prospect.refusal)
        return prospect.image

    async def read(self, sha256: str, offset: int, length: int) -> bytes:
        """Return bytes of a permitted image, or raise ImageUnknownError if it has been deleted."""
        try:
            return await self.firmware.store.read(sha256, offset, length)
        except NotFoundError as error:
            raise ImageUnknownError("the image is gone") from error

    async def _offers(self, session: AsyncSession, prospect: Prospect, image: FirmwareImage) -> bool:
        """Return whether a device is to fetch its image, and record the offer, or why it is withheld."""
        if prospect.runs_it:
            return False
        client_id, device_id, stage = prospect.client_id, prospect.device_id, prospect.stage
        refusal = prospect.refusal
        if refusal is not None:
            unfit = ImageStep(device_id, image.sha256, DeviceStep.UNFIT, refusal)
            await rollout_devices.record(session, [unfit])
            await self._withhold(session, prospect, image, refusal)
            return False
        if stage is None or stage == rules.WITHHELD or stage in rules.ENDS:
            await queries.set_deliveries(session, [Delivered(device_id, image.sha256, rules.OFFERED)])
            facts = events.FirmwareOfferFacts(version=image.version)
            self.firmware.outbox.emit(session, events.FIRMWARE_OFFERED, client_id, facts)
        return True

    async def _withhold(
        self, session: AsyncSession, prospect: Prospect, image: FirmwareImage, reason: str
    ) -> None:
        """Emit an event, once for each reason, that a device does not get its image, unless it has refused it."""
        delivery = prospect.delivery
        if prospect.stage in rules.REFUSED_BY_DEVICE or (delivery and delivery.error == reason):
            return
        log.warning("firmware.withheld", client_id=prospect.client_id, sha256=image.sha256, reason=reason)
        withheld = Delivered(prospect.device_id, image.sha256, rules.WITHHELD, error=reason)
        await queries.set_deliveries(session, [withheld])
        facts = events.FirmwareWithheldFacts(version=image.version, sha256=image.sha256, reason=reason)
        self.firmware.outbox.emit(session, events.FIRMWARE_WITHHELD, prospect.client_id, facts)

    async def firmware_of(self, context: RequestContext, request: admin.FirmwareOf) -> admin.DevicesFirmware:
        """Return what devices run, and what is wanted for them."""
        return admin.DevicesFirmware(
            devices=[
                admin.DeviceFirmware(
                    client_id=one.client_id,
                    runs=one.runs,
                    wanted=one.image.version if one.image else None,
                    up_to_date=one.image is None or one.runs_it,
                    stage=one.stage,
                    percent=one.delivery.percent if one.delivery else None,
                    withheld=one.refusal,
                )
                for one in await prospects.prospects(context.session, request.devices)
            ]
        )

    async def count_statuses(self) -> dict[str, int]:
        """Return the number of devices in open rollouts, by status."""
        async with self.firmware.database.transaction() as session:
            return await rollout_devices.count_statuses(session)

    def offer_of(self, image: FirmwareImage, request_id: str | None) -> messages.FirmwareOffer:
        """Return the offer of an image; without a request it is a notice."""
        return messages.FirmwareOffer(
            request_id=request_id,
            sha256=image.sha256,
            size_bytes=image.size_bytes,
            version=image.version,
            chunk_size_bytes=self.firmware.settings.chunk_size_bytes,
            window=rules.WINDOW,
            url=self.firmware.settings.http_url
            and f"{self.firmware.settings.http_url.rstrip('/')}/firmware/{image.sha256}",
            time=messages.server_time(datetime.now(UTC)),
        )
