"""The firmware service: `python -m services.firmware.main`."""

from __future__ import annotations

import asyncio

from services.firmware import handlers, http
from services.firmware.chunks import Chunks
from services.firmware.house import House
from services.firmware.notices import Notices
from services.firmware.service import Firmware
from services.firmware.shelf import Shelf
from services.firmware.store import Store
from shared import lifecycle, postgres
from shared.outbox import Outbox
from shared.requests import Desk
from shared.service import Health
from shared.settings import FirmwareSettings


async def main(settings: FirmwareSettings) -> None:
    """Serve until cancelled."""
    connection = Health("firmware", settings).connection
    store = Store(settings.assets_url)
    shelf = None if settings.assets_dir is None else Shelf(settings.assets_dir)
    outbox = Outbox("firmware")
    async with postgres.connected(settings.database_url) as database:
        firmware = Firmware(settings, database, store, outbox)
        server = http.Server(settings, firmware) if settings.http_port else None
        chunks, notices = Chunks(firmware, connection), Notices(firmware, connection)
        await connection.listen(*handlers.routes(firmware, Desk(database, connection), chunks, notices))
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(connection.run(), name="mqtt")
            tasks.create_task(outbox.drain(database, connection), name="outbox")
            tasks.create_task(House(firmware, shelf).keep(), name="house")
            tasks.create_task(chunks.run(), name="chunks")
            tasks.create_task(notices.run(), name="notices")
            if server is not None:
                tasks.create_task(server.run(), name="http")


if __name__ == "__main__":
    lifecycle.run("firmware", FirmwareSettings, main)
