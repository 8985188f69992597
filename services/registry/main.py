"""The registry: `python -m services.registry.main`."""

from __future__ import annotations

import asyncio
from datetime import UTC, datetime, timedelta

import structlog

from services.registry import commands, handlers
from services.registry.identity import Identities
from services.registry.reconciler import Reconciler
from services.registry.service import Registry
from shared import broker_accounts, keycloak, lifecycle, postgres
from shared.errors import FleetError
from shared.outbox import Outbox
from shared.postgres import Database
from shared.requests import Desk, forget_answers
from shared.service import Health
from shared.settings import RegistrySettings

log = structlog.get_logger()
HOUSEKEEPING_S = 60.0
ANSWERS_KEPT = timedelta(days=1)
COMMANDS_KEPT = timedelta(days=30)


async def main(settings: RegistrySettings) -> None:
    """Serve until cancelled."""
    connection = Health("registry", settings).connection
    async with (
        postgres.connected(settings.database_url) as database,
        keycloak.connected(settings) as identity_provider,
        broker_accounts.connected(settings, identifier=connection.identifier) as accounts,
    ):
        identities = Identities(database, identity_provider, accounts, connection)
        outbox = Outbox("registry")
        registry = Registry(settings, database, identities, outbox)
        await connection.listen(*handlers.routes(registry, Desk(database, connection)))
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(connection.run(), name="mqtt")
            tasks.create_task(outbox.drain(database, connection), name="outbox")
            tasks.create_task(reconcile(registry), name="reconcile")
            tasks.create_task(keep_house(database, identities), name="house")


async def reconcile(registry: Registry) -> None:
    """Compare and mend at the start and from time to time."""
    while True:
        await registry.identities.ready()
        try:
            diagnosis = await Reconciler(registry).run(repair=True)
            log.info("registry.reconciled", devices=diagnosis.devices, findings=len(diagnosis.findings))
        except FleetError as error:
            log.warning("registry.not_reconciled", reason=error.message)
        await asyncio.sleep(registry.settings.reconcile_s)


async def keep_house(database: Database, identities: Identities) -> None:
    """Remove what cut-off makings left, old answers and old commands, at the start and from time to time."""
    while True:
        await identities.ready()
        try:
            ended = await identities.end_unfinished()
            if ended:
                log.info("identity.unfinished_ended", devices=ended)
            await forget_answers(database, before=datetime.now(UTC) - ANSWERS_KEPT)
            await commands.forget(database, before=datetime.now(UTC) - COMMANDS_KEPT)
        except FleetError as error:
            log.warning("registry.house_not_kept", reason=error.message)
        await asyncio.sleep(HOUSEKEEPING_S)


if __name__ == "__main__":
    lifecycle.run("registry", RegistrySettings, main)
