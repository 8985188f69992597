"""Delivery: which image a device is offered, its pieces, and what it reports."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

import structlog

from services.firmware import db, domain, rollout_db, standing_db
from services.firmware.rollout_domain import Fact
from services.firmware.store import Store
from shared import messages, topics
from shared.errors import ConflictError, FleetError, NotFoundError
from shared.messages import FirmwareStage
from shared.outbox import Outbox
from shared.postgres import Database
from shared.requests import Caller
from shared.schema import DeviceModel, FirmwareImage
from shared.settings import FirmwareSettings

log = structlog.get_logger()

_FACTS: Final = {
    FirmwareStage.CONFIRMED: Fact.CONFIRMED,
    FirmwareStage.FAILED: Fact.FAILED,
    FirmwareStage.ROLLED_BACK: Fact.ROLLED_BACK,
}
"""What a report says to a rollout; any other stage says that the device has begun."""


class ImageNotForDeviceError(FleetError):
    """A device may not have this image, and asking again will not help."""

    code = "image_not_for_device"


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
            sha256 = await standing_db.image_of(session, device_id, check.sha256) or model.image_sha256
            if sha256 is None:
                return messages.FirmwareOffer(request_id=check.request_id, up_to_date=True)
            image = await session.get_one(FirmwareImage, sha256)
            delivery = await db.delivery(session, device_id, image.sha256)
            stage = delivery.stage if delivery else None
            try:
                wanted = domain.wants(candidate_of(image, stage), running)
            except ConflictError as error:
                log.warning("firmware.withheld", client_id=client_id, sha256=image.sha256, reason=error.message)
                await standing_db.note(session, device_id, sha256, Fact.UNFIT, reason=error.message)
                wanted = False
            if check.sha256 == sha256:
                await standing_db.note(session, device_id, sha256, Fact.RUNS_IT)
            if not wanted:
                return messages.FirmwareOffer(request_id=check.request_id, up_to_date=True)
            if stage is None or stage in domain.ENDS:
                await db.set_delivery(session, device_id, image.sha256, stage=domain.OFFERED)
                self.outbox.tell(session, "firmware/offered", client_id, {"version": image.version})
            return self.offer_of(image, check.request_id)

    async def read_chunk(self, client_id: str, request: messages.FirmwareChunkRequest) -> bytes:
        """Return a piece of an image, or raise ImageNotForDeviceError."""
        async with self.database.transaction() as session:
            device_id, model = await db.device(session, client_id)
            image = await session.get(FirmwareImage, request.sha256)
            if image is None or image.model_id != model.id:
                raise ImageNotForDeviceError("there is no such image for this device")
            if image.sha256 != model.image_sha256:
                delivery = await db.delivery(session, device_id, image.sha256)
                refused = delivery is None or delivery.stage in domain.REFUSED_BY_DEVICE
                if refused or await standing_db.was_skipped(session, device_id, image.sha256):
                    raise ImageNotForDeviceError("this image was not offered to this device")
        try:
            return await self.store.read(request.sha256, request.offset, request.length)
        except NotFoundError as error:
            raise ImageNotForDeviceError("the image is gone") from error

    async def record_report(self, client_id: str, report: messages.FirmwareReport) -> None:
        """Store how far a device has come with an image."""
        async with self.database.transaction() as session:
            device_id, model = await db.device(session, client_id)
            image = await session.get(FirmwareImage, report.sha256)
            if image is None or image.model_id != model.id:
                raise NotFoundError(f"sha256: {model.code} has no image {report.sha256}")
            fact = _FACTS.get(report.stage, Fact.BEGUN)
            await standing_db.note(session, device_id, report.sha256, fact, reason=report.error)
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
        had_rollouts = await rollout_db.give_way(caller.session, model)
        if model.image_sha256 == image.sha256 and not had_rollouts:
            return
        model.image_sha256 = image.sha256
        caller.audit("firmware.release", model.code, after={"version": image.version, "sha256": image.sha256})
        self.outbox.tell(caller.session, "firmware/released", data={"model": model.code, "version": image.version})
        for client_id, presence, stage in await db.devices_online(caller.session, model.id, image.sha256):
            status = presence.status or {}
            running = domain.Running(
                presence.firmware_sha256,
                status.get("chip"),
                status.get("project"),
                status.get("slot_size_bytes"),
            )
            try:
                if domain.wants(candidate_of(image, stage), running):
                    self.outbox.put(
                        caller.session, topics.FIRMWARE_OFFER, self.offer_of(image, None), client_id=client_id
                    )
            except ConflictError as error:
                log.warning("firmware.withheld", client_id=client_id, sha256=image.sha256, reason=error.message)

    async def count_stands(self) -> dict[str, int]:
        """Return how many devices of the open rollouts stand how."""
        async with self.database.transaction() as session:
            return await standing_db.count_stands(session)

    def offer_of(self, image: FirmwareImage, request_id: str | None) -> messages.FirmwareOffer:
        """Return the offer of an image; without a request it is a notice."""
        return messages.FirmwareOffer(
            request_id=request_id,
            sha256=image.sha256,
            size_bytes=image.size_bytes,
            version=image.version,
            chunk_size_bytes=self.settings.chunk_size_bytes,
            window=self.settings.window,
        )


def candidate_of(image: FirmwareImage, stage: str | None) -> domain.Candidate:
    """Return an image as the rules look at it, with how an earlier delivery of it stands."""
    return domain.Candidate(image.sha256, image.size_bytes, image.chip, image.project, stage)
