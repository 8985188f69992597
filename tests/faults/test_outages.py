"""A neighbour goes away, or a leader freezes, in the middle of a rotation: it goes on by itself."""

from __future__ import annotations

import asyncio
import os
import signal
from collections.abc import Awaitable, Callable
from pathlib import Path

import pytest
from sqlalchemy import text
from sqlalchemy.ext.asyncio import create_async_engine

from dev import credentials
from dev.fleet import Fleet
from dev.servers.base import Server
from dev.stack import Stack
from dev.system import SERVICES, System
from dev.waiting import logged, until
from shared.protocol import admin
from shared.protocol.admin import Package
from tests import keycloak_proxy

STEPS = ("rotation/offered", "rotation/delivered", "rotation/stored")
DEADLINE_S = "60"
"""It outlasts an outage."""
STEPPED_DOWN = b"rotator.stepped_down"


def neighbour(stack: Stack, name: str) -> Server:
    return {"broker": stack.broker, "postgres": stack.postgres}[name]


async def survives(fleet: Fleet, step: str, outage: Callable[[Package], Awaitable[object]]) -> None:
    """Let something fail when a rotation has come to a step: it must go on to its end by itself."""
    package = await fleet.device()
    async with fleet.powered(package):
        await fleet.until(package, lambda view: view.online)
        await fleet.ask(admin.ROTATION_START, device=package.client_id)
        await fleet.seen(package, step)
        await outage(package)
        view = await fleet.until(package, lambda view: view.rotation_state == "OK")
        renewed = await fleet.ask(admin.DEVICE_PROVISION, device=package.client_id)
    assert view.secret_generation == 2
    assert await credentials.keycloak_accepts(renewed)
    assert await credentials.broker_accepts(renewed)
    assert not await credentials.keycloak_accepts(package)


@pytest.mark.parametrize("name", ["broker", "postgres"])
@pytest.mark.parametrize("step", STEPS)
async def test_a_rotation_survives_the_outage_of_a_neighbour(
    fleet: Fleet, system: System, name: str, step: str
) -> None:
    server = neighbour(system.stack, name)

    async def outage(_: Package) -> None:
        await asyncio.to_thread(server.kill)
        await asyncio.to_thread(server.start)

    async with system.altered("rotator", MDM_ROTATION_DEADLINE_S=DEADLINE_S):
        await survives(fleet, step, outage)


@pytest.mark.parametrize("step", STEPS)
async def test_a_rotation_survives_the_outage_of_keycloak(fleet: Fleet, system: System, step: str) -> None:
    async def outage(package: Package) -> None:
        """Last until the rotator has missed Keycloak, unless its last call was made just before."""
        rotator = system.services["rotator"]
        known = rotator.log_size

        async def is_over() -> bool:
            missed = b"rotation.deferred" in await asyncio.to_thread(rotator.log_since, known)
            return missed or (await fleet.show(package)).rotation_state == "OK"

        async with proxy.away():
            await until(is_over)

    async with (
        keycloak_proxy.running(system.stack.endpoints.keycloak_url) as proxy,
        system.altered("rotator", MDM_KEYCLOAK_URL=proxy.url, MDM_ROTATION_DEADLINE_S=DEADLINE_S),
    ):
        await survives(fleet, step, outage)


async def test_a_frozen_leader_gives_way_and_writes_nothing_when_it_wakes(fleet: Fleet, system: System) -> None:
    old = system.services["rotator"]
    await until(lambda: asyncio.to_thread(leads, old))  # it may have been started a moment ago
    standby = await asyncio.to_thread(lambda: system.start("rotator", name="standby"))
    written = old.log_size
    try:
        old.send_signal(signal.SIGSTOP)
        package = await fleet.device()
        async with fleet.powered(package):
            await fleet.until(package, lambda view: view.online)
            await fleet.ask(admin.ROTATION_START, device=package.client_id)
            await fleet.until(package, lambda view: view.secret_generation == 2)
        old.send_signal(signal.SIGCONT)
        await logged(old, STEPPED_DOWN.decode(), beyond=written)
        assert await leaders(system.stack) == 1
        assert standby.running
    finally:
        old.send_signal(signal.SIGCONT)
        await asyncio.to_thread(system.stop, "standby")


def leads(rotator: Server) -> bool:
    """Return whether a rotator leads, by what it has logged last of that."""
    changes = [
        line for line in rotator.log_since().splitlines() if b"rotator.leads" in line or STEPPED_DOWN in line
    ]
    return bool(changes) and STEPPED_DOWN not in changes[-1]


async def leaders(stack: Stack) -> int:
    engine = create_async_engine(stack.endpoints.database_url)
    try:
        async with engine.connect() as connection:
            query = (
                "SELECT count(*) FROM pg_locks WHERE locktype = 'advisory' AND granted AND "
                "((classid::bigint << 32) | objid::bigint) = hashtextextended('mdm:rotator', 0)"
            )
            return int(await connection.scalar(text(query)) or 0)
    finally:
        await engine.dispose()


async def count_becomes(wanted: int, folder: Path) -> None:
    """Wait until so many services say that they can work."""
    await until(lambda: asyncio.to_thread(os.listdir, folder), lambda names: len(names) == wanted)


@pytest.mark.parametrize("name", ["broker", "postgres"])
async def test_services_are_unhealthy_for_as_long_as_a_neighbour_is_away(
    system: System, tmp_path: Path, name: str
) -> None:
    server = neighbour(system.stack, name)

    def start_all() -> None:
        for service in SERVICES:
            system.start(service, name=f"watched-{service}", MDM_HEALTH_FILE=str(tmp_path / service))

    await asyncio.to_thread(start_all)
    try:
        await count_becomes(len(SERVICES), tmp_path)
        await asyncio.to_thread(server.stop)
        await count_becomes(0, tmp_path)
        await asyncio.to_thread(server.start)
        await count_becomes(len(SERVICES), tmp_path)
        assert all(process.running for process in system.services.values())
    finally:
        for service in SERVICES:
            await asyncio.to_thread(system.stop, f"watched-{service}")
