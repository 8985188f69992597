"""The firmware service: `python -m services.firmware.main`."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from functools import partial

import structlog

from services.firmware import routes
from services.firmware.assignment.progress import Reports
from services.firmware.assignment.service import Assignment
from services.firmware.context import Firmware
from services.firmware.delivery.chunks import Chunks
from services.firmware.delivery.notifier import Notifier
from services.firmware.diagnostics import routes as diagnostics
from services.firmware.diagnostics.coredumps import CoreDumpService
from services.firmware.diagnostics.logs import Logs
from services.firmware.diagnostics.vitals import VitalService
from services.firmware.homeassistant.bridge import HomeAssistant
from services.firmware.http import server as http_server
from services.firmware.images.export import ImageExport
from services.firmware.images.retention import Retention
from services.firmware.rollouts.executor import RolloutExecutor
from shared import crypto
from shared.database import engine
from shared.database.flaws import FlawRecorder
from shared.database.outbox import Outbox
from shared.mqtt.connection import Connection, Route
from shared.runtime import lifecycle, metrics
from shared.runtime.periodic import periodic
from shared.runtime.settings import FirmwareSettings
from shared.server.connection import Health, connection_of
from shared.server.rpc import RpcServer
from shared.storage.images import Store

log = structlog.get_logger()
HOUSEKEEPING_S = 60.0


async def main(settings: FirmwareSettings) -> None:
    """Serve until cancelled."""
    health = Health("firmware", settings)
    connection = health.connection
    store = Store(settings.assets_url)
    export = None if settings.assets_dir is None else ImageExport(settings.assets_dir)
    outbox = Outbox("firmware")
    async with engine.connected(settings.database_url) as database, health.kept_fresh(database):
        firmware = Firmware(settings, database, store, outbox, FlawRecorder(database))
        server = http_server.HttpServer(settings, firmware) if settings.http_port else None
        chunks, notices = Chunks(firmware, connection), Notifier(firmware, connection)
        dumps, logs = CoreDumpService(firmware, crypto.Vault(settings.master_keys)), Logs(firmware)
        vitals = VitalService(firmware)
        rpc, reports = RpcServer(database, connection), Reports(database, outbox)
        await connection.listen(
            *routes.routes(firmware, rpc, chunks, notices, reports),
            *diagnostics.routes(firmware, dumps, logs, vitals, rpc),
        )
        executor = RolloutExecutor(firmware)
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(connection.run(), name="mqtt")
            tasks.create_task(outbox.drain(database, connection), name="outbox")
            tasks.create_task(Retention(firmware, export).run(), name="housekeeping")
            tasks.create_task(chunks.run(), name="chunks")
            tasks.create_task(notices.run(), name="notices")
            tasks.create_task(reports.run(), name="reports")
            tasks.create_task(
                receive_reports(settings, connection, diagnostics.reports(firmware, logs, vitals)), name="reported"
            )
            tasks.create_task(logs.run(), name="logs")
            tasks.create_task(vitals.run(), name="vitals")
            tasks.create_task(
                periodic(
                    partial(housekeeping, dumps, logs, vitals),
                    every_s=HOUSEKEEPING_S,
                    on_outage="diagnostics.housekeeping_failed",
                ),
                name="diagnostics",
            )
            tasks.create_task(executor.run(), name="conductor")
            tasks.create_task(
                periodic(executor.forget_ended, every_s=HOUSEKEEPING_S, on_outage="rollout.history_kept"),
                name="rollout history",
            )
            tasks.create_task(metrics.ROLLOUT_STATES.refresh(Assignment(firmware).count_statuses), name="metrics")
            tasks.create_task(
                bridge(settings, connection, HomeAssistant(firmware, connection)), name="homeassistant"
            )
            if server is not None:
                tasks.create_task(server.run(), name="http")


async def receive_reports(settings: FirmwareSettings, connection: Connection, received: Sequence[Route]) -> None:
    """Receive devices' lines and vitals over a connection of their own, so that a flood delays nothing else."""
    of_reports = connection_of("firmware", settings, suffix="-logs")
    await of_reports.listen(*received)
    await connection.ready()
    await of_reports.run()


async def bridge(settings: FirmwareSettings, connection: Connection, home_assistant: HomeAssistant) -> None:
    """Publish devices to Home Assistant over a connection of its own, or unpublish all if it is switched off."""
    if not settings.homeassistant:
        await home_assistant.unpublish_all()
        return
    of_events = connection_of("firmware", settings, suffix="-homeassistant")
    await of_events.listen(home_assistant.route())
    await connection.ready()
    async with of_events.running():
        await of_events.ready()
        await home_assistant.run()


async def housekeeping(dumps: CoreDumpService, logs: Logs, vitals: VitalService) -> None:
    """Delete expired core dumps, log lines and vitals."""
    await dumps.forget_unfinished()
    await logs.forget()
    await vitals.forget()


if __name__ == "__main__":
    lifecycle.run("firmware", FirmwareSettings, main)
