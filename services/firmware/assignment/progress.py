"""Devices' reports on images, stored in batches."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Final, NamedTuple

from sqlalchemy.ext.asyncio import AsyncSession

from services.firmware import queries, rules
from services.firmware.assignment import rollout_devices
from services.firmware.assignment.rollout_devices import ImageStep
from services.firmware.assignment.rollout_states import DeviceStep
from services.firmware.queries import Delivered
from shared.database import device_refs
from shared.database.engine import Database
from shared.database.outbox import Outbox
from shared.errors import NotFoundError
from shared.protocol import events
from shared.protocol.messages import FirmwareReport, FirmwareStage
from shared.runtime.microbatch import MicroBatcher

_STEPS: Final = {
    FirmwareStage.CONFIRMED: DeviceStep.CONFIRMED,
    FirmwareStage.FAILED: DeviceStep.FAILED,
    FirmwareStage.ROLLED_BACK: DeviceStep.ROLLED_BACK,
}
"""The step of a stage in a rollout; any other stage means that the device has begun."""


class Reported(NamedTuple):
    """A report, and its device."""

    client_id: str
    device_id: int
    report: FirmwareReport


@dataclass(frozen=True, slots=True)
class Reports:
    """Stores devices' reports."""

    database: Database
    outbox: Outbox
    reports: MicroBatcher[tuple[str, FirmwareReport], NotFoundError | None] = field(default_factory=MicroBatcher)
    """Reports with the client ids of their devices; the result is the error if one cannot be stored."""

    async def store(self, client_id: str, report: FirmwareReport) -> None:
        """Store a device's progress with an image, or raise NotFoundError."""
        refusal = await self.reports.submit((client_id, report))
        if refusal is not None:
            raise refusal

    async def run(self) -> None:
        """Store reports in batches, until cancelled."""
        await self.reports.run(self._store)

    async def _store(self, batch: Sequence[tuple[str, FirmwareReport]]) -> Sequence[NotFoundError | None]:
        """Store all in order; return the errors of those that cannot be stored."""
        async with self.database.transaction() as session:
            reporters = await queries.reporters(session, [client_id for client_id, _ in batch])
            models = await queries.models_of_images(session, {report.sha256 for _, report in batch})
            reported: list[Reported] = []
            refusals: list[NotFoundError | None] = []
            for client_id, report in batch:
                reporter = reporters.get(client_id)
                if reporter is None:
                    refusals.append(device_refs.unknown(client_id))
                elif models.get(report.sha256) != reporter.model_id:
                    refusals.append(NotFoundError(f"sha256: {reporter.model} has no image {report.sha256}"))
                else:
                    refusals.append(None)
                    reported.append(Reported(client_id, reporter.device_id, report))
            await record(session, self.outbox, reported)
            return refusals


async def record(session: AsyncSession, outbox: Outbox, reported: Sequence[Reported]) -> None:
    """Store reports in order, of existing images; emit an event for each that changes something."""
    if not reported:
        return
    await rollout_devices.record(
        session,
        [
            ImageStep(device_id, report.sha256, _STEPS.get(report.stage, DeviceStep.BEGUN), report.error)
            for _, device_id, report in reported
        ],
    )
    stages = await queries.stages(session, [(device_id, report.sha256) for _, device_id, report in reported])
    delivered: list[Delivered] = []
    for client_id, device_id, report in reported:
        key = device_id, report.sha256
        present = stages.get(key)
        if not rules.counts(present, report.stage):
            continue
        stages[key] = report.stage
        delivered.append(Delivered(device_id, report.sha256, report.stage, report.percent, report.error))
        if present != report.stage or report.stage == FirmwareStage.DOWNLOADING:
            facts = events.FirmwareReportFacts(
                sha256=report.sha256, stage=report.stage, percent=report.percent, error=report.error
            )
            outbox.emit(session, events.FIRMWARE_REPORTED, client_id, facts)
    await queries.set_deliveries(session, delivered)
