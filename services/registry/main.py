"""The registry: `python -m services.registry.main`."""

from __future__ import annotations

import asyncio
import time
from datetime import UTC, datetime, timedelta
from functools import partial

import structlog

from services.registry import certificates, history, routes
from services.registry.commands import service as commands
from services.registry.config.service import Configs
from services.registry.connections import base
from services.registry.connections import service as connection_service
from services.registry.connections.service import Connections
from services.registry.context import Registry
from services.registry.credentials import keepalives
from services.registry.credentials.broker_watch import BrokerWatch
from services.registry.credentials.service import CredentialService
from services.registry.devices import fleet_metrics
from services.registry.devices.fleet import FleetService
from services.registry.devices.health_watch import HealthWatch
from services.registry.devices.presence import Presences
from services.registry.devices.sleepers import Sleepers
from services.registry.identity import Identities
from services.registry.instance import Installation, OtherInstallationError
from services.registry.models import ModelService
from services.registry.notifications import service as notifications
from services.registry.notifications.delivery import NotificationDelivery
from services.registry.notifications.watch import NotificationWatch
from services.registry.reconciler import pace
from services.registry.reconciler.service import Reconciler
from services.registry.validation import checker as checker_module
from shared import crypto
from shared.auth import keycloak
from shared.broker import api as broker
from shared.database import engine
from shared.database.flaws import FlawRecorder
from shared.database.outbox import Outbox
from shared.errors import FleetError
from shared.mqtt.rates import Rate
from shared.runtime import lifecycle, metrics
from shared.runtime.periodic import periodic
from shared.runtime.settings import RegistrySettings
from shared.server.connection import Health, connection_of
from shared.server.rpc import RpcServer, forget_answers

log = structlog.get_logger()
HOUSEKEEPING_S = 60.0
ANSWERS_KEPT = timedelta(days=1)
COMMANDS_KEPT = timedelta(days=30)
NOTIFICATIONS_KEPT = timedelta(days=30)


async def main(settings: RegistrySettings) -> None:
    """Serve until cancelled."""
    health = Health("registry", settings)
    connection = health.connection
    connection.dispatcher.admission.limit("claim_id", Rate(settings.claim_rate_per_s, settings.claim_burst))
    async with (
        engine.connected(settings.database_url) as database,
        keycloak.connected(settings) as identity_provider,
        broker.connected(
            settings,
            identifier=connection.identifier,
            nodes=settings.broker_api_urls.split(),
            api_token=settings.broker_api_token,
        ) as gate,
        health.kept_fresh(database),
        checker_module.checker() as checker,
    ):
        identities = Identities(database, identity_provider, gate, connection)
        vault = crypto.Vault(settings.master_keys)
        outbox = Outbox("registry", vault)
        instance = Installation(database, identity_provider, gate, vault, settings)
        registry = Registry(settings, database, identities, outbox, instance, checker, FlawRecorder(database))
        registry.connection_base = base.document(registry)
        watch = BrokerWatch(registry)
        watching = connection_of("registry", settings, suffix="-watch")
        await watching.listen(*watch.routes())
        connections = Connections(registry, connection)
        configs, fleet = Configs(registry), FleetService(registry)
        presences = Presences(registry, commands.CommandService(registry).send_again)
        rpc = RpcServer(database, connection, vault)
        await connection.listen(
            *routes.routes(
                registry, rpc, configs=configs, connections=connections, presences=presences, fleet=fleet
            )
        )
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(connection.run(), name="mqtt")
            tasks.create_task(configs.run_lookups(), name="configurations")
            tasks.create_task(presences.run(), name="presence")
            tasks.create_task(outbox.drain(database, connection), name="outbox")
            tasks.create_task(
                periodic(
                    partial(housekeeping, registry),
                    every_s=min(HOUSEKEEPING_S, settings.reconcile_s or HOUSEKEEPING_S),
                    wake=registry.wake,
                    on_outage="registry.housekeeping_failed",
                ),
                name="housekeeping",
            )
            tasks.create_task(
                periodic(
                    base.SettingsRecorder(registry).record,
                    every_s=base.EVERY_S,
                    on_outage="connection.settings_deferred",
                ),
                name="settings",
            )
            tasks.create_task(
                periodic(
                    connections.push,
                    every_s=connection_service.PUSH_EVERY_S,
                    wake=registry.push_connections,
                    on_outage="connection.push_ended",
                ),
                name="connections",
            )
            tasks.create_task(CredentialService(registry).run(), name="credentials")
            tasks.create_task(keepalives.run(registry), name="keepalives")
            tasks.create_task(Sleepers(registry).run(), name="sleepers")
            tasks.create_task(HealthWatch(registry).run(), name="health")
            tasks.create_task(NotificationWatch(registry).run(), name="notifications")
            tasks.create_task(NotificationDelivery(registry).run(), name="deliveries")
            tasks.create_task(watching.run(), name="broker watch")
            tasks.create_task(watch.run(), name="refusals")
            tasks.create_task(
                periodic(
                    partial(watch_certificates, registry),
                    every_s=certificates.LOOK_EVERY_S,
                    on_outage="certificate.deferred",
                ),
                name="certificates",
            )
            tasks.create_task(metrics.DEVICES.refresh(registry.count_devices), name="metrics")
            tasks.create_task(metrics.refresh(fleet_metrics.GAUGES, fleet.look), name="fleet")


async def watch_certificates(registry: Registry) -> None:
    """Look at all certificates."""
    registry.certificates = await certificates.report(registry.settings)


async def housekeeping(registry: Registry) -> None:
    """Finish interrupted sagas, delete old answers, and compare and repair everything if it is due."""
    await registry.identities.ready()
    try:
        await forget_answers(registry.database, before=datetime.now(UTC) - ANSWERS_KEPT)
        await commands.forget(registry.database, before=datetime.now(UTC) - COMMANDS_KEPT)
        await notifications.forget(registry.database, before=datetime.now(UTC) - NOTIFICATIONS_KEPT)
        events_kept = timedelta(days=registry.settings.events_keep_days)
        await history.forget(registry.database, before=datetime.now(UTC) - events_kept, now=datetime.now(UTC))
        if not await pace.claim(registry.database, at_once=registry.compare_at_once):
            await registry.identities.end_unfinished()
            return
        registry.compare_at_once = False
        await ModelService(registry).seal_old()
        began_s = time.monotonic()
        diagnosis = await Reconciler(registry).run(repair=True)
        took = timedelta(seconds=time.monotonic() - began_s)
        next_in = pace.interval(took, registry.settings.reconcile_s)
        await pace.compared(registry.database, next_in=next_in)
        log.info(
            "registry.reconciled",
            devices=diagnosis.devices,
            findings=len(diagnosis.findings),
            took_s=round(took.total_seconds(), 1),
            next_in_s=round(next_in.total_seconds()),
        )
    except OtherInstallationError:
        raise
    except FleetError as error:
        registry.compare_at_once = True
        log.warning("registry.housekeeping_failed", reason=error.message)


if __name__ == "__main__":
    lifecycle.run("registry", RegistrySettings, main)
