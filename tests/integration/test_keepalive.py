"""A device that connects with keepalive 0, which the broker never gives up, is seen to be gone all the same."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from datetime import timedelta
from functools import partial
from typing import Final

from dev.database import run
from dev.fleet import OPTIONS, Fleet
from dev.stack import Stack
from dev.system import System
from dev.waiting import until
from services.registry.credentials.keepalives import LONGEST_S, RENEWAL
from shared.protocol import admin, messages
from shared.protocol.admin import DeviceDetails, Package
from tests.bare_connection import bare

LEARNS_S: Final = 20
"""The broker publishes its uptime every ten seconds."""
SEEN_BEFORE = """
    UPDATE mdm.device_presence SET last_seen_at = now() - $2::interval
    FROM mdm.devices WHERE devices.id = device_id AND key = $1
"""


async def grow_old(stack: Stack, package: Package) -> None:
    """Let the device's connection be an old one."""
    await run(stack, SEEN_BEFORE, package.device_key, RENEWAL + timedelta(minutes=1))


def fields(view: DeviceDetails) -> list[tuple[str, str]]:
    return [(flaw.topic, flaw.field) for flaw in view.flaws]


async def test_a_device_without_keepalive_that_is_gone_is_seen_to_be_gone(fleet: Fleet, stack: Stack) -> None:
    """It does not speak any more, and its connection is open: as of firmware that hangs, or behind a NAT."""
    package = await fleet.device()
    async with bare(package, keepalive_s=0) as frozen:
        await frozen.report(messages.Status(online=True))
        view = await until(lambda: fleet.show(package), lambda view: view.online and view.flaws)
        assert fields(view) == [("CONNECT", "keepalive")]
        await grow_old(stack, package)
        await until(lambda: fleet.show(package), lambda view: not view.online)
        await frozen.ended()
        await fleet.seen(package, "device/offline")
    async with bare(package, keepalive_s=60) as mended:
        await mended.report(messages.Status(online=True))
        await until(lambda: fleet.show(package), lambda view: view.online and not view.flaws)
    await fleet.ask(admin.DEVICE_REMOVE, device=package.client_id)


async def running_for(system: System) -> float:
    """Return for how many seconds the registry runs."""
    pid = str(system.services["registry"].pid)
    ps = await asyncio.create_subprocess_exec("ps", "-o", "etimes=", "-p", pid, stdout=asyncio.subprocess.PIPE)
    return float((await ps.communicate())[0])


async def test_a_device_that_is_still_there_comes_back_at_once(fleet: Fleet, stack: Stack, system: System) -> None:
    package = await fleet.device()
    # Once it has learned when the broker started, it looks for devices not seen since, as this one.
    await until(partial(running_for, system), lambda seconds: seconds > LEARNS_S)
    async with fleet.powered(package, options=replace(OPTIONS, keepalive_s=2 * LONGEST_S)):
        await until(lambda: fleet.show(package), lambda view: view.online and view.flaws and view.has_key)
        await fleet.seen(package, "device/online")
        # Its status, which follows, would make the connection look new again.
        await fleet.seen(package, "config/reported", outcome="applied")

        # Once only: else the connection that replaces it would look old too, and its device silent.
        await grow_old(stack, package)
        await fleet.seen(package, "device/offline")
        await until(lambda: fleet.show(package), lambda view: view.online)
    await fleet.ask(admin.DEVICE_REMOVE, device=package.client_id)
