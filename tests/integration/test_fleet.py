"""The fleet in numbers on the real stack: they are those of the devices' list."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace

import pytest

from dev.database import run
from dev.fleet import OPTIONS, Fleet
from dev.stack import Stack
from dev.waiting import until
from shared.protocol import admin
from shared.protocol.admin import DeviceView

DAY_S = 24 * 3600
SEEN_AGO = """
    UPDATE mdm.device_presence SET left_at = NULL, last_seen_at = now() - $1 * interval '1 second'
    WHERE device_id = (SELECT id FROM mdm.devices WHERE key = $2)"""


async def all_devices(fleet: Fleet) -> list[DeviceView]:
    found: list[DeviceView] = []
    after: int | None = 0
    while after is not None:
        page = await fleet.ask(admin.DEVICE_LIST, after=after)
        found += page.devices
        after = page.next
    return found


@pytest.mark.parametrize("silent_s", [60, 2 * DAY_S, 8 * DAY_S, 31 * DAY_S, None])
async def test_the_numbers_are_those_of_the_list(fleet: Fleet, stack: Stack, silent_s: int | None) -> None:
    model = await fleet.model(config_schema={"properties": {"level": {"type": "integer"}}})
    on, off, new, sleeper = [await fleet.device(model) for _ in range(4)]
    async with fleet.powered(sleeper, options=replace(OPTIONS, wake_interval_s=3600)):
        await fleet.seen(sleeper, "device/asleep")
    async with fleet.powered(off):
        await fleet.until(off, lambda view: view.config_outcome == "applied")
    await fleet.until(off, lambda view: not view.online)
    await fleet.ask(admin.DEVICE_UPDATE, device=new.client_id, enabled=False)
    await fleet.ask(admin.CONFIG_SET, device=off.client_id, overrides={"level": 1})
    await run(stack, SEEN_AGO, silent_s, off.device_key)
    async with fleet.powered(on):
        await fleet.until(on, lambda view: view.config_outcome == "applied")
        # Devices of other tests grow older, fall asleep or leave: it may be between the two looks.
        devices, view = await until(lambda: both(fleet), lambda both: numbers(both[1]) == counted(both[0]))
    assert numbers(view) == counted(devices)
    assert view.asleep >= 1
    assert {it.version: it.devices for it in view.versions if it.model == model} == {"1.0.0": 3, None: 1}


async def both(fleet: Fleet) -> tuple[list[DeviceView], admin.FleetView]:
    return await all_devices(fleet), await fleet.ask(admin.FLEET_SHOW)


def numbers(view: admin.FleetView) -> list[object]:
    """Return what the fleet in numbers says that can be counted in the list."""
    return [
        *(view.devices, view.disabled, view.online, view.asleep),
        *(view.rotation, view.health, view.health_reasons, view.drifting),
    ]


def counted(devices: list[DeviceView]) -> list[object]:
    """Return the same numbers, counted in the list."""
    seen = [device for device in devices if device.last_seen_at is not None]
    return [
        len(devices),
        sum(not device.enabled for device in devices),
        sum(device.online for device in devices),
        sum(device.presence == "asleep" for device in devices),
        Counter(device.rotation_state for device in devices),
        Counter(device.health for device in devices),
        Counter(it.reason for device in devices for it in device.health_reasons),
        sum((device.config_version, "applied") != reported(device) for device in seen),
    ]


def reported(device: DeviceView) -> tuple[int | None, str | None]:
    return device.config_version_reported, device.config_outcome
