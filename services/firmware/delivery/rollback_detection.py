"""Rollback detection: a device that connects with other firmware than it rebooted for, or had confirmed."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import datetime

from services.firmware.assignment import progress
from services.firmware.assignment.progress import Reports
from services.firmware.rules import ReportedRun
from shared.database.engine import Database
from shared.protocol import messages
from shared.runtime.microbatch import MicroBatcher


@dataclass(frozen=True, slots=True)
class RollbackDetection:
    """Compares the running firmware of devices with the image that they were about to start, or have confirmed.

    A status may come before another replica has stored the earlier report: then the device's next status, or its
    next check, shows the rollback.
    """

    database: Database
    reports: Reports
    connected: MicroBatcher[tuple[str, ReportedRun], None] = field(default_factory=MicroBatcher)
    """Devices that have come online, by client id, and what they report to run."""

    async def check(self, client_id: str, status: messages.Status, received_at: datetime) -> None:
        """Record a rollback that the device does not report itself, such as of an image that never ran."""
        if status.online and status.firmware_sha256 is not None:
            await self.connected.submit((client_id, ReportedRun(status.firmware_sha256, received_at)))

    async def run(self) -> None:
        """Look up the images of devices that have come online, in batches, until cancelled."""
        await self.connected.run(self._record)

    async def _record(self, batch: Sequence[tuple[str, ReportedRun]]) -> Sequence[None]:
        async with self.database.transaction() as session:
            await progress.record_lost(session, self.reports.outbox, dict(batch))
        return [None] * len(batch)
