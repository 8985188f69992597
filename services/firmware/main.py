"""The firmware service: `python -m services.firmware.main`."""

from __future__ import annotations

import asyncio

from services.firmware import handlers
from services.firmware.conductor import Conductor
from services.firmware.service import Firmware
from services.firmware.store import Store
from shared import lifecycle, metrics, postgres
from shared.outbox import Outbox
from shared.requests import Desk
from shared.service import Health
from shared.settings import FirmwareSettings


async def main(settings: FirmwareSettings) -> None:
    """Serve until cancelled."""
    connection = Health("firmware", settings).connection
    store = Store(settings.assets_url)
    outbox = Outbox("firmware")
    async with postgres.connected(settings.database_url) as database:
        firmware = Firmware(settings, database, store, outbox)
        await connection.listen(*handlers.routes(firmware, Desk(database, connection)))
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(connection.run(), name="mqtt")
            tasks.create_task(outbox.drain(database, connection), name="outbox")
            tasks.create_task(Conductor(firmware).run(), name="conductor")
            tasks.create_task(metrics.ROLLOUT_STATES.refresh(firmware.count_stands), name="metrics")


if __name__ == "__main__":
    lifecycle.run("firmware", FirmwareSettings, main)
