"""Rollback detection: a device that reconnects with other firmware than it rebooted for has rolled back."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

from services.firmware import queries
from services.firmware.assignment.progress import Reports
from shared.database.engine import Database
from shared.protocol import messages
from shared.protocol.messages import FirmwareStage
from shared.runtime.microbatch import MicroBatcher


@dataclass(frozen=True, slots=True)
class RollbackDetection:
    """Compares the running firmware of devices with the image that they were about to start.

    A status may come before another replica has stored the earlier report: then the device's next status, or its
    next check, shows the rollback.
    """

    database: Database
    reports: Reports
    connected: MicroBatcher[str, Sequence[str]] = field(default_factory=MicroBatcher)
    """Devices that have come online, by client id."""

    async def check(self, client_id: str, status: messages.Status) -> None:
        """Record a rollback that the device does not report itself, such as of an image that never ran."""
        if not status.online or status.firmware_sha256 is None:
            return
        for sha256 in await self.connected.submit(client_id):
            if sha256 == status.firmware_sha256:
                continue
            report = messages.FirmwareReport(
                sha256=sha256,
                stage=FirmwareStage.ROLLED_BACK,
                error="came back with other firmware than it rebooted for",
            )
            await self.reports.store(client_id, report)

    async def run(self) -> None:
        """Look up the images for which devices that have come online rebooted, in batches, until cancelled."""
        await self.connected.run(self._rebooted_for)

    async def _rebooted_for(self, client_ids: Sequence[str]) -> Sequence[Sequence[str]]:
        async with self.database.transaction() as session:
            found = await queries.rebooted_for(session, client_ids)
        return [found.get(client_id, ()) for client_id in client_ids]
