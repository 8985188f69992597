"""The registry moves the reference device to another connection profile, and the device leaves a bad one."""

from __future__ import annotations

from collections.abc import AsyncIterator
from dataclasses import replace

import pytest

from dev.fleet import OPTIONS, Fleet
from dev.stack import Stack
from device.options import Hooks
from shared.protocol import admin
from shared.protocol.admin import DeviceConnectionView, Package
from shared.protocol.messages import WifiNetwork
from tests.faults.roads import Road

HOME = WifiNetwork(ssid="home", password="correct horse battery")


@pytest.fixture
async def road(stack: Stack) -> AsyncIterator[Road]:
    """Another address of the broker."""
    other = Road(stack.endpoints.device_mqtt_port)
    await other.open()
    yield other
    await other.close()


async def connection_of(fleet: Fleet, package: Package) -> DeviceConnectionView:
    found = (await fleet.show(package)).connection
    assert found is not None
    return found


@pytest.mark.parametrize("keyless", [False, True], ids=["sealed", "plain"])
async def test_a_device_follows_a_profile_and_rotates_over_it(fleet: Fleet, road: Road, keyless: bool) -> None:
    package = await fleet.device()
    hooks = Hooks(joins=lambda network: network == HOME)
    async with fleet.powered(package, options=replace(OPTIONS, keyless=keyless), hooks=hooks):
        await fleet.until(package, lambda view: view.online and (keyless or view.has_key))
        change = {"mqtt_port": road.port, "wifi": [HOME.model_dump()]}
        await fleet.ask(admin.CONNECTION_SET, device=package.client_id, **change)
        applied = await fleet.seen(package, "connection/applied")

        moved = await connection_of(fleet, package)
        assert (moved.in_use, moved.fallback) == (applied.data["connection_id"], package.connection_id)
        await fleet.ask(admin.ROTATION_START, device=package.client_id)
        await fleet.seen(package, "rotation/completed")


async def test_a_device_goes_back_from_a_profile_that_does_not_work_and_its_reason_is_shown(
    fleet: Fleet,
) -> None:
    package = await fleet.device()
    async with fleet.powered(package):
        await fleet.until(package, lambda view: view.online)
        await fleet.ask(admin.CONNECTION_SET, device=package.client_id, mqtt_port=1, trial_seconds=1)
        reverted = await fleet.seen(package, "connection/reverted")

        assert (reverted.data["outcome"], reverted.data["reason"]) == (
            "reverted",
            "no request was answered in time",
        )
        assert (await connection_of(fleet, package)).in_use == package.connection_id


async def test_a_device_whose_new_address_is_gone_comes_back_by_the_former_one_and_is_shown_so(
    fleet: Fleet, road: Road
) -> None:
    package = await fleet.device()
    options = replace(OPTIONS, fallback_after_s=1)
    async with fleet.powered(package, options=options):
        await fleet.until(package, lambda view: view.online)
        await fleet.ask(admin.CONNECTION_SET, device=package.client_id, mqtt_port=road.port)
        await fleet.seen(package, "connection/applied")
        await road.close()
        await fleet.seen(package, "connection/fell_back")
        assert (await connection_of(fleet, package)).progress == "fallback"

        await road.open()
        await fleet.ask(admin.CONNECTION_RETRY, device=package.client_id)
        await fleet.seen(package, "connection/applied")
    assert (await connection_of(fleet, package)).progress == "in use"
