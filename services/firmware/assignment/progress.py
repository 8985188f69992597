"""Devices' reports on images, stored in batches."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Final, NamedTuple

from sqlalchemy.ext.asyncio import AsyncSession

from services.firmware import queries, rules
from services.firmware.assignment import rollout_devices
from services.firmware.assignment.rollout_devices import ImageStep
from services.firmware.assignment.rollout_states import DeviceStep
from services.firmware.queries import Delivered
from services.firmware.rules import Stage
from shared.database import device_refs
from shared.database.engine import Database
from shared.database.outbox import Outbox
from shared.errors import NotFoundError
from shared.protocol import events
from shared.protocol.messages import FirmwareReport, FirmwareStage
from shared.runtime.microbatch import MicroBatcher

_STEPS: Final[Mapping[str, DeviceStep]] = {
    FirmwareStage.CONFIRMED: DeviceStep.CONFIRMED,
    FirmwareStage.FAILED: DeviceStep.FAILED,
    FirmwareStage.ROLLED_BACK: DeviceStep.ROLLED_BACK,
    rules.FELL_BACK: DeviceStep.ROLLED_BACK,
}
"""The step of a stage in a rollout; any other stage means that the device has begun."""

_LOST: Final[Mapping[str, str]] = {
    FirmwareStage.ROLLED_BACK: "came back with other firmware than it rebooted for",
    rules.FELL_BACK: "had confirmed the image, and came back with other firmware",
}


class Progress(NamedTuple):
    """A device's progress with an image: the stage of its report, or what the service has found out itself."""

    client_id: str
    device_id: int
    sha256: str
    stage: Stage
    percent: int | None = None
    error: str | None = None


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
            images = await queries.images_of_models(session, {report.sha256 for _, report in batch})
            reported: list[Progress] = []
            refusals: list[NotFoundError | None] = []
            for client_id, report in batch:
                reporter = reporters.get(client_id)
                if reporter is None:
                    refusals.append(device_refs.unknown(client_id))
                elif (reporter.model_id, report.sha256) not in images:
                    refusals.append(NotFoundError(f"sha256: {reporter.model} has no image {report.sha256}"))
                else:
                    refusals.append(None)
                    reported.append(
                        Progress(
                            client_id,
                            reporter.device_id,
                            report.sha256,
                            report.stage,
                            report.percent,
                            report.error,
                        )
                    )
            await record(session, self.outbox, reported)
            return refusals


async def record(session: AsyncSession, outbox: Outbox, reported: Sequence[Progress]) -> None:
    """Record progress in order, with existing images; emit an event for each that changes something."""
    if not reported:
        return
    await rollout_devices.record(
        session,
        [
            ImageStep(one.device_id, one.sha256, _STEPS.get(one.stage, DeviceStep.BEGUN), one.error)
            for one in reported
        ],
    )
    stages = await queries.stages(session, [(one.device_id, one.sha256) for one in reported])
    delivered: list[Delivered] = []
    for one in reported:
        key = one.device_id, one.sha256
        present = stages.get(key)
        if not rules.counts(present, one.stage):
            continue
        stages[key] = one.stage
        delivered.append(Delivered(*key, one.stage, one.percent, one.error))
        if present != one.stage or one.stage == FirmwareStage.DOWNLOADING:
            facts = events.FirmwareReportFacts(
                sha256=one.sha256, stage=one.stage, percent=one.percent, error=one.error
            )
            outbox.emit(session, events.FIRMWARE_REPORTED, one.client_id, facts, kept=present != one.stage)
    await queries.set_deliveries(session, delivered)


async def record_lost(session: AsyncSession, outbox: Outbox, client_id: str, reported: rules.ReportedRun) -> None:
    """Record which image a device did not start or keep, if there is one, by what it reports to run."""
    for device_id, newest_first in (await queries.attempts(session, client_id)).items():
        found = rules.lost(newest_first, reported)
        if found is not None:
            sha256, stage = found
            lost = Progress(client_id, device_id, sha256, stage, error=_LOST[stage])
            await record(session, outbox, [lost])
