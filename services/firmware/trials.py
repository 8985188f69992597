"""Images on trial: a device that comes back with other firmware than it rebooted for has rolled it back."""

from __future__ import annotations

from dataclasses import dataclass

from services.firmware import db
from services.firmware.service import Firmware
from shared import messages
from shared.messages import FirmwareStage


@dataclass(frozen=True, slots=True)
class Trials:
    """What devices say of their running firmware, compared with what they were about to start."""

    firmware: Firmware

    async def look(self, client_id: str, status: messages.Status) -> None:
        """Record a rollback that the device does not report itself, as one whose new image never ran."""
        if not status.online or status.firmware_sha256 is None:
            return
        async with self.firmware.database.transaction() as session:
            given_up = await db.rebooted_for(session, client_id, without=status.firmware_sha256)
        for sha256 in given_up:
            report = messages.FirmwareReport(
                sha256=sha256,
                stage=FirmwareStage.ROLLED_BACK,
                error="came back with other firmware than it rebooted for",
            )
            await self.firmware.record_report(client_id, report)
