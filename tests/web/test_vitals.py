"""A device's vitals, its timeline and what is wanted for it, in the page."""

from __future__ import annotations

import json
from datetime import timedelta
from functools import partial
from typing import Final

import pytest
from playwright.async_api import Page, expect

from dev.database import run
from dev.fleet import Fleet
from dev.system import PAGE, System
from dev.waiting import until
from shared.protocol import admin, messages, topics
from shared.protocol.admin import Package
from tests.hours import hour_has_begun
from tests.raw import RawDevice
from tests.web.conftest import go, log_in, visit
from tests.web.test_connections import faults

AXE: Final = PAGE.parent / "node_modules/axe-core/axe.min.js"
INSERT: Final = """
INSERT INTO mdm.device_vitals (device_id, hour, version, names, numbers)
SELECT d.id, date_trunc('hour', now(), 'UTC') - n * interval '1 hour',
    CASE WHEN n < 4 THEN '1.1.0' ELSE '1.0.0' END,
    'heap_free_bytes rssi_dbm',
    ARRAY[1, 90000 + 100 * n, 91000 + 100 * n, 92000 + 100 * n, 91000, 9, 1, -61, -61, -61, -61, 9]
FROM mdm.devices d, generate_series(1, 60) n WHERE d.key = $1 AND n NOT BETWEEN 30 AND 40
"""


async def living(fleet: Fleet, system: System) -> Package:
    """Return a device with vitals of some days, that has been online."""
    await hour_has_begun()
    package = await fleet.device()
    await run(system.stack, INSERT, package.device_key)
    async with RawDevice(package) as device:
        facts = messages.Status(online=True, boot=7, rssi_dbm=-72, ip="192.168.1.7", reset_reason="brownout")
        await device.send(topics.STATUS, facts)
        await fleet.until(package, lambda view: view.online)
        body = json.dumps({"uptime_s": timedelta(days=2).total_seconds()})
        await device.client.publish(topics.VITALS.of(client_id=package.client_id), body, qos=1)
        await until(
            partial(fleet.ask, admin.VITALS_SHOW, device=package.client_id), lambda found: len(found.vitals) == 3
        )
    return package


@pytest.mark.parametrize("width", [390, 1280])
async def test_vitals_are_shown_with_their_course_and_the_firmware_that_ran(
    page: Page, fleet: Fleet, system: System, width: int
) -> None:
    package = await living(fleet, system)
    await page.set_viewport_size({"width": width, "height": 800})
    await page.evaluate(AXE.read_text())
    await go(page, f"device/{package.client_id}/vitals")
    heap = page.get_by_role("img", name="heap_free_bytes: 87.99 KiB to 95.7 KiB; firmware 1.1.0 from")
    await expect(heap).to_be_visible()
    await expect(heap.locator("polyline.mean")).to_have_count(2)  # a gap of eleven hours
    await expect(heap.locator("line.change")).to_have_count(1)
    await expect(page.get_by_role("figure").filter(has_text="rssi_dbm -61 dBm")).to_be_visible()
    await expect(page.get_by_role("figure").filter(has_text="uptime_s 2 d")).to_be_visible()
    assert await faults(page) == []
    await page.get_by_label("Of the last").select_option("a day")
    await expect(heap).to_have_count(0)
    await expect(page.get_by_role("img", name="heap_free_bytes: 87.99 KiB to 92.19 KiB")).to_be_visible()


@pytest.mark.parametrize("width", [390, 1280])
async def test_what_has_happened_to_a_device_and_how_it_is_are_shown(
    page: Page, fleet: Fleet, system: System, width: int
) -> None:
    package = await living(fleet, system)
    await page.set_viewport_size({"width": width, "height": 800})
    await page.evaluate(AXE.read_text())
    await go(page, f"device/{package.client_id}/events")
    lines = page.get_by_role("region", name="What has happened").get_by_role("listitem")
    await expect(lines.filter(has_text="device online")).to_contain_text("reset_reason: brownout")
    await expect(lines.last).to_contain_text("device added")
    await fleet.ask(admin.CONFIG_SET, device=package.client_id, overrides={"n": 1})
    await expect(lines.filter(has_text="config changed")).to_be_visible()
    # The newest is first; but a device's health changes by itself, at any time.
    assert "config changed" in next(it for it in await lines.all_inner_texts() if "health changed" not in it)
    await expect(page.get_by_text("weak, -72 dBm")).to_be_visible()
    await expect(page.get_by_text("192.168.1.7")).to_be_visible()
    await expect(page.get_by_role("definition").filter(has_text="brownout")).to_be_visible()
    wanted = page.get_by_role("table", name="In use and wanted")
    await expect(wanted.get_by_role("row", name="Configuration \u2013 version 2")).to_be_visible()
    await expect(wanted.get_by_role("row", name="Firmware")).to_contain_text("none released")
    if width < 760:
        menu = await page.get_by_role("button", name="Menu").bounding_box()
        log_out = await page.get_by_role("button", name="Log out").bounding_box()
        assert menu is not None
        assert log_out is not None
        assert log_out["y"] < menu["y"] + menu["height"]  # on one line
    assert await faults(page) == []


async def test_the_overview_has_what_happened_before_it_was_loaded(
    opened: Page, fleet: Fleet, system: System
) -> None:
    package = await fleet.device()
    await fleet.ask(admin.DEVICE_UPDATE, device=package.client_id, name="cellar")
    await visit(opened, system)
    await log_in(opened, system.profile.password.get_secret_value())
    events = opened.get_by_role("region", name="Events").get_by_role("listitem")
    await expect(events.filter(has_text="device added").filter(has_text="cellar")).to_be_visible()


async def test_firmware_is_compared_by_the_vitals_of_its_devices(page: Page, fleet: Fleet, system: System) -> None:
    package = await living(fleet, system)
    model = package.client_id.split("-")[1]
    await go(page, "firmware")
    region = page.get_by_role("region", name="Vitals by firmware")
    await region.get_by_label("Model").select_option(model)
    table = page.get_by_role("table", name="Vitals by firmware")
    await expect(table.get_by_role("row", name="heap_free_bytes 1.1.0 1")).to_be_visible()
    await expect(table.get_by_role("row", name="rssi_dbm 1.0.0 1 -61 dBm -61 dBm -61 dBm")).to_be_visible()
