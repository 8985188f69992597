"""The rotator: `python -m services.rotator.main`; of any number of replicas, one leads."""

from __future__ import annotations

import asyncio
from datetime import timedelta
from functools import partial
from typing import Final

import structlog

from services.rotator import leader, routes
from services.rotator.context import Rotator
from services.rotator.exchange import Exchange
from services.rotator.leader import Leadership
from services.rotator.scheduler import Scheduler
from services.rotator.worker import RotationWorker
from shared import crypto
from shared.auth import keycloak
from shared.auth.keycloak import Keycloak
from shared.broker import api as broker
from shared.broker.api import Broker
from shared.database import engine
from shared.database.engine import Database
from shared.database.outbox import Outbox
from shared.errors import LeadershipLostError, UnavailableError, first
from shared.mqtt.connection import Connection
from shared.runtime import lifecycle, metrics
from shared.runtime.periodic import periodic
from shared.runtime.settings import RotatorSettings
from shared.server.connection import Health, connection_of
from shared.server.rpc import RpcServer

log = structlog.get_logger()
_FORGET_S: Final = 3600.0


async def main(settings: RotatorSettings) -> None:
    """Stand by or lead until cancelled."""
    health = Health("rotator", settings, role="standby")
    async with (
        engine.connected(settings.database_url) as database,
        keycloak.connected(settings) as identity_provider,
        broker.connected(settings, identifier=health.connection.identifier) as gate,
        health.connection.running(),
        health.kept_fresh(database),
    ):
        while True:
            try:
                async with leader.elected(
                    settings.database_url,
                    database,
                    poll_s=settings.leader_poll_s,
                    lease_s=settings.leader_lease_s,
                ) as leadership:
                    await health.announce("leader")
                    log.info("rotator.leads")
                    await lead(settings, leadership, database, identity_provider, gate, greeted=health.connection)
            except* LeadershipLostError:
                log.warning("rotator.stepped_down", reason="the connection that holds the lock is gone")
            except* UnavailableError as group:
                log.warning("rotator.election_failed", reason=first(group).message)
            await health.announce("standby")
            await asyncio.sleep(settings.leader_poll_s)


async def lead(
    settings: RotatorSettings,
    leadership: Leadership,
    database: Database,
    identity_provider: Keycloak,
    gate: Broker,
    *,
    greeted: Connection,
) -> None:
    """Do the leader's work until the lock is lost."""
    outbox = Outbox("rotator")
    rotator = Rotator(leadership, database, outbox, crypto.Vault(settings.master_keys))
    connection = connection_of("rotator", settings, suffix="-leader")
    sweep = RotationWorker(settings, rotator, identity_provider, gate, connection, greeted)
    exchange, scheduler = Exchange(rotator), Scheduler(settings, rotator)
    await scheduler.begin()
    await sweep.begin()
    await connection.listen(*routes.routes(rotator, exchange, scheduler, RpcServer(leadership, connection)))
    async with asyncio.TaskGroup() as tasks:
        tasks.create_task(leadership.keep_alive(), name="lease")
        tasks.create_task(connection.run(), name="mqtt")
        tasks.create_task(outbox.drain(database, connection), name="outbox")
        tasks.create_task(exchange.run_lookups(), name="offers")
        tasks.create_task(sweep.run(), name="sweep")
        tasks.create_task(scheduler.run(), name="scheduler")
        keep = timedelta(days=settings.rotations_keep_days)
        tasks.create_task(
            periodic(partial(rotator.forget_ended, keep), every_s=_FORGET_S, on_outage="rotation.history_kept"),
            name="history",
        )
        tasks.create_task(metrics.ROTATION_STATES.refresh(rotator.count_states), name="metrics")


if __name__ == "__main__":
    lifecycle.run("rotator", RotatorSettings, main)
