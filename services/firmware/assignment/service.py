"""Decides which image a device is offered and may fetch."""

from __future__ import annotations

from dataclasses import dataclass, replace
from datetime import UTC, datetime

import structlog
from sqlalchemy.ext.asyncio import AsyncSession

from services.firmware import queries, rules
from services.firmware.assignment import progress, rollout_devices
from services.firmware.assignment.progress import Reported
from services.firmware.assignment.rollout_devices import ImageStep
from services.firmware.assignment.rollout_states import DeviceStep
from services.firmware.context import Firmware
from services.firmware.queries import Delivered
from shared.database.tables import DeviceModel, FirmwareImage, Presence
from shared.errors import ConflictError, FleetError, NotFoundError
from shared.protocol import events, messages
from shared.protocol.messages import FirmwareStage

log = structlog.get_logger()


class ImageNotForDeviceError(FleetError):
    """A device must not have this image; a retry will not help."""

    code = "image_not_for_device"


class ImageUnknownError(ImageNotForDeviceError):
    """The image does not exist, or the model has none."""

    code = "image_unknown"


@dataclass(frozen=True, slots=True)
class _Prospect:
    """A device, the image that it should have, and its progress with it."""

    client_id: str
    device_id: int
    image: FirmwareImage
    stage: str | None

    @property
    def candidate(self) -> rules.Candidate:
        return candidate_of(self.image, self.stage)


@dataclass(frozen=True, slots=True)
class Assignment:
    """Decides which image a device is offered and may fetch."""

    firmware: Firmware

    async def answer_check(self, client_id: str, check: messages.FirmwareCheck) -> messages.FirmwareOffer:
        """Return the offer of the image that a device should fetch, or that it is up to date."""
        running = rules.Running(check.sha256, check.chip, check.project, check.slot_size_bytes, check.version)
        async with self.firmware.database.transaction() as session:
            prospect = await _prospect(session, client_id, running)
            if prospect is None:
                return _up_to_date(check)
            if rules.came_back(prospect.candidate, running):
                prospect = await self._count_out(session, prospect, check.version or "another version")
            if running.sha256 == prospect.image.sha256:
                runs_it = ImageStep(prospect.device_id, prospect.image.sha256, DeviceStep.RUNS_IT)
                await rollout_devices.record(session, [runs_it])
            if await self._offers(session, prospect, running):
                return self.offer_of(prospect.image, check.request_id)
        return _up_to_date(check)

    async def notice(self, client_id: str, running: rules.Running) -> messages.FirmwareOffer | None:
        """Return the notice of a device's image, or None if it runs it, has begun with it or must not have it."""
        async with self.firmware.database.transaction() as session:
            prospect = await _prospect(session, client_id, running)
            if prospect is None or prospect.stage not in rules.NOT_NOTIFIED:
                return None
            return self.offer_of(prospect.image, None) if await self._offers(session, prospect, running) else None

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
        image = await session.get(FirmwareImage, sha256)
        if image is None:
            raise ImageUnknownError("there is no such image for this device")
        if image.model_id != model.id:
            raise ImageNotForDeviceError("there is no such image for this device")
        delivery = await queries.delivery(session, device_id, sha256)
        if delivery is None:
            if sha256 != model.image_sha256:
                raise ImageNotForDeviceError("this image was not offered to this device")
        elif delivery.stage in rules.REFUSED_BY_DEVICE:
            raise ImageNotForDeviceError(f"the device has had this image before: {delivery.stage}")
        if sha256 != model.image_sha256 and await rollout_devices.was_skipped(session, device_id, sha256):
            raise ImageNotForDeviceError("a rollout has left this device out")
        return image

    async def current_image(self, session: AsyncSession, client_id: str) -> FirmwareImage:
        """Return the image that this device should have, or raise ImageNotForDeviceError.

        An image that does not fit the device's last status is refused, as it is not offered either.
        """
        device_id, _ = await queries.device(session, client_id)
        running = running_of(await session.get(Presence, device_id))
        prospect = await _prospect(session, client_id, running)
        if prospect is None:
            raise ImageUnknownError("the model has no image")
        try:
            rules.wants(prospect.candidate, running)
        except ConflictError as error:
            raise ImageNotForDeviceError(error.message) from error
        return prospect.image

    async def read(self, sha256: str, offset: int, length: int) -> bytes:
        """Return bytes of a permitted image, or raise ImageUnknownError if it has been deleted."""
        try:
            return await self.firmware.store.read(sha256, offset, length)
        except NotFoundError as error:
            raise ImageUnknownError("the image is gone") from error

    async def _offers(self, session: AsyncSession, prospect: _Prospect, running: rules.Running) -> bool:
        """Return whether a device is to fetch its image, and record the offer."""
        client_id, image = prospect.client_id, prospect.image
        try:
            wanted = rules.wants(prospect.candidate, running)
        except ConflictError as error:
            log.warning("firmware.withheld", client_id=client_id, sha256=image.sha256, reason=error.message)
            unfit = ImageStep(prospect.device_id, image.sha256, DeviceStep.UNFIT, error.message)
            await rollout_devices.record(session, [unfit])
            return False
        if wanted and (prospect.stage is None or prospect.stage in rules.ENDS):
            await queries.set_deliveries(session, [Delivered(prospect.device_id, image.sha256, rules.OFFERED)])
            facts = events.FirmwareOfferFacts(version=image.version)
            self.firmware.outbox.emit(session, events.FIRMWARE_OFFERED, client_id, facts)
        return wanted

    async def _count_out(self, session: AsyncSession, prospect: _Prospect, version: str) -> _Prospect:
        """Record an image as rolled back: the device was to start it, and checks again from another version."""
        error = f"the device did not keep it, and runs {version}"
        report = messages.FirmwareReport(
            sha256=prospect.image.sha256, stage=FirmwareStage.ROLLED_BACK, error=error
        )
        await progress.record(
            session, self.firmware.outbox, [Reported(prospect.client_id, prospect.device_id, report)]
        )
        return replace(prospect, stage=report.stage)

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


def _up_to_date(check: messages.FirmwareCheck) -> messages.FirmwareOffer:
    time = messages.server_time(datetime.now(UTC))
    return messages.FirmwareOffer(request_id=check.request_id, up_to_date=True, time=time)


def running_of(presence: Presence | None) -> rules.Running:
    """Return the running firmware of a device's last status."""
    if presence is None:
        return rules.Running(None, None, None, None)
    status = presence.status or {}
    return rules.Running(
        presence.firmware_sha256,
        status.get("chip"),
        status.get("project"),
        status.get("slot_size_bytes"),
        presence.firmware_version,
    )


async def _prospect(session: AsyncSession, client_id: str, running: rules.Running) -> _Prospect | None:
    """Return the image that a device should have, a rollout's or its model's; decided here only."""
    device_id, model = await queries.device(session, client_id)
    sha256 = await rollout_devices.image_of(session, device_id, running.sha256) or model.image_sha256
    if sha256 is None:
        return None
    image = await session.get(FirmwareImage, sha256)
    if image is None:
        return None  # deleted in the meantime
    delivery = await queries.delivery(session, device_id, image.sha256)
    return _Prospect(client_id, device_id, image, delivery.stage if delivery else None)


def candidate_of(image: FirmwareImage, stage: str | None) -> rules.Candidate:
    """Return an image and the stage of its earlier delivery, as input of the rules."""
    return rules.Candidate(image.sha256, image.size_bytes, image.chip, image.project, stage, image.version)
