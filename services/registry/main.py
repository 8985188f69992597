"""The registry: `python -m services.registry.main`."""

from __future__ import annotations

import asyncio
import contextlib
from datetime import UTC, datetime, timedelta

import structlog

from services.registry import routes
from services.registry.commands import service as commands
from services.registry.config.service import Configs
from services.registry.context import Registry
from services.registry.credentials.broker_watch import BrokerWatch
from services.registry.credentials.service import Credentials
from services.registry.devices.presence import Presences
from services.registry.identity import Identities
from services.registry.instance import Instance, OtherInstallationError
from services.registry.reconciler.service import Reconciler
from services.registry.validation import checker as checker_module
from shared import crypto
from shared.auth import keycloak
from shared.broker import api as broker
from shared.database import engine
from shared.database.outbox import Outbox
from shared.errors import FleetError
from shared.mqtt.rates import Rate
from shared.runtime import lifecycle, metrics
from shared.runtime.settings import RegistrySettings
from shared.server.connection import Health, connection_of
from shared.server.rpc import RpcServer, forget_answers

log = structlog.get_logger()
HOUSEKEEPING_S = 60.0
ANSWERS_KEPT = timedelta(days=1)
COMMANDS_KEPT = timedelta(days=30)


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
        outbox = Outbox("registry")
        vault = crypto.Vault(settings.master_keys)
        instance = Instance(database, identity_provider, gate, vault, settings)
        registry = Registry(settings, database, identities, outbox, instance, checker)
        watch = BrokerWatch(registry)
        watching = connection_of("registry", settings, suffix="-watch")
        await watching.listen(*watch.routes())
        configs, presences = Configs(registry), Presences(registry, commands.Commands(registry).send_again)
        rpc = RpcServer(database, connection, vault)
        await connection.listen(*routes.routes(registry, rpc, configs, presences))
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(connection.run(), name="mqtt")
            tasks.create_task(configs.run_lookups(), name="configurations")
            tasks.create_task(presences.run(), name="presence")
            tasks.create_task(outbox.drain(database, connection), name="outbox")
            tasks.create_task(housekeeping(registry), name="housekeeping")
            tasks.create_task(Credentials(registry).run(), name="credentials")
            tasks.create_task(watching.run(), name="broker watch")
            tasks.create_task(watch.run(), name="refusals")
            tasks.create_task(metrics.DEVICES.refresh(registry.count_devices), name="metrics")


async def housekeeping(registry: Registry) -> None:
    """Finish interrupted sagas, delete old answers, and periodically compare and repair everything."""
    loop = asyncio.get_running_loop()
    compare_at = loop.time()
    while True:
        await registry.identities.ready()
        due = registry.compare.is_set() or loop.time() >= compare_at
        registry.compare.clear()
        try:
            await forget_answers(registry.database, before=datetime.now(UTC) - ANSWERS_KEPT)
            await commands.forget(registry.database, before=datetime.now(UTC) - COMMANDS_KEPT)
            if due:
                compare_at = loop.time()  # and again soon, if it fails
                diagnosis = await Reconciler(registry).run(repair=True)
                log.info("registry.reconciled", devices=diagnosis.devices, findings=len(diagnosis.findings))
                compare_at = loop.time() + registry.settings.reconcile_s
            else:
                await registry.identities.end_unfinished()
        except OtherInstallationError:
            raise
        except FleetError as error:
            log.warning("registry.housekeeping_failed", reason=error.message)
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(min(HOUSEKEEPING_S, registry.settings.reconcile_s)):
                await registry.compare.wait()


if __name__ == "__main__":
    lifecycle.run("registry", RegistrySettings, main)
