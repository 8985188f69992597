"""Takes the pictures in docs/screenshots/ of a small fleet on a real stack: `make screenshots`."""

from __future__ import annotations

import asyncio
import sys
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path
from typing import Final, Literal

from playwright.async_api import Page, async_playwright, expect

from cli.client import Admin
from dev import database, stack, system
from dev.event_recorder import watching
from dev.fleet import Fleet
from dev.system import System
from dev.uploads import upload
from device import image_builder
from device.options import Hooks
from shared.protocol import admin
from shared.protocol.admin import Package
from tests.web.conftest import ARGUMENTS, CHROMIUM, go, log_in, visit

FOLDER: Final = Path(__file__).parent.parent.parent / "docs/screenshots"
MODEL: Final = "lamp"
SCHEMA: Final = {
    "properties": {
        "led": {
            "properties": {
                "brightness": {"type": "integer", "minimum": 0, "maximum": 100, "title": "Brightness in percent"},
                "color": {"enum": ["warm", "neutral", "cold"], "title": "Colour of the light"},
            }
        },
        "night_mode": {"type": "boolean", "title": "Dim the light from ten to six"},
        "interval_s": {"type": "number", "minimum": 1, "title": "Seconds between two reports"},
        "label": {"type": "string", "title": "What the display shows"},
    }
}
DEFAULTS: Final = {"led": {"brightness": 60, "color": "warm"}, "night_mode": True, "interval_s": 30}
ROOMS: Final = (
    *("kitchen-table", "kitchen-sink", "hall", "stairs", "living-room-left", "living-room-right"),
    *("desk", "bed-left", "bed-right", "bathroom-mirror", "garage", "garden-door"),
)
TABLE: Final = b"name;tags\ndesk;desk lights\nattic;attic lights\ncellar;cellar lights\nattic;upstairs\n"
VITALS: Final = """
INSERT INTO mdm.device_vitals (device_id, hour, version, names, numbers)
SELECT d.id, date_trunc('hour', now(), 'UTC') - n * interval '1 hour', '1.0.0',
    'heap_free_bytes rssi_dbm uptime_s', ARRAY[
        12, heap - 6000, heap, heap + 2500, heap, 3590,
        12, rssi - 4, rssi, rssi + 3, rssi, 3590,
        12, up - 3300, up - 1650, up, up, 3590]
FROM mdm.devices d, generate_series(0, 160) n,
    LATERAL (SELECT 113200 + 180 * n + 2500 * sin(n / 3.8), round(-63 - 5 * cos(n / 6.0)), 600000 - 3600.0 * n)
        AS it(heap, rssi, up)
WHERE d.key = $1
"""
BROKEN: Final = {"garage", "garden-door"}


async def populate(fleet: Fleet) -> dict[str, Package]:
    """Make a model with an image, and a lamp for each room."""
    await fleet.ask(
        admin.MODEL_ADD, code=MODEL, name="Lamp", chip="esp32", config_schema=SCHEMA, config_defaults=DEFAULTS
    )
    image = image_builder.build(version="1.1.0", project=MODEL, payload=200_000)
    await upload(fleet, MODEL, image, release=False)
    lamps = {}
    for room in ROOMS:
        tags = [room.split("-")[0], "lights"]
        added = await fleet.ask(admin.DEVICE_ADD, model=MODEL, name=room, tags=tags)
        lamps[room] = await fleet.ask(admin.DEVICE_PROVISION, device=added.client_id)
    return lamps


async def measure(running: System, package: Package) -> None:
    """Store a week of vitals of a lamp that leaks a little."""
    await database.run(running.stack, VITALS, package.device_key)


async def take(page: Page, name: str, scheme: Literal["light", "dark"] = "light") -> None:
    """Store what the page shows."""
    await page.emulate_media(color_scheme=scheme)
    await page.screenshot(path=FOLDER / f"{name}.png", animations="disabled")
    sys.stderr.write(f"taken: {name}\n")


async def tour(page: Page, fleet: Fleet, lamps: dict[str, Package], password: str) -> None:
    """Go through the pages while the lamps work."""
    desk = lamps["desk"].client_id
    await take(page, "login")
    await log_in(page, password)
    await expect(page.get_by_role("heading", name="Overview")).to_be_visible()
    await fleet.ask(admin.ROTATION_START, tag="living")
    await expect(page.get_by_text("rotation completed").first).to_be_visible(timeout=30_000)
    await take(page, "overview")
    await go(page, "devices")
    await expect(page.get_by_role("link", name="stairs")).to_be_visible()
    await take(page, "devices")

    await page.get_by_role("button", name="Import").click()
    await page.get_by_label("Model of lines without one").select_option(MODEL)
    await page.get_by_label("File").set_input_files({"name": "t.csv", "mimeType": "text/csv", "buffer": TABLE})
    await expect(page.get_by_text("2 devices to be added")).to_be_visible()
    await take(page, "import")
    await page.get_by_role("button", name="Close").click()

    await go(page, f"device/{desk}")
    await page.get_by_label("led.brightness").fill("300")
    await page.get_by_role("button", name="Save and push").click()
    await expect(page.get_by_text("300 is greater than the maximum of 100")).to_be_visible()
    await take(page, "configuration")
    await page.get_by_label("led.brightness").fill("80")
    await page.get_by_label("label").fill("Do not disturb")
    await page.get_by_role("button", name="Save and push").click()
    await expect(page.get_by_role("row", name="Configuration version 2 version 2 applied")).to_be_visible()
    await page.get_by_role("link", name="History").click()
    await page.get_by_role("button", name="Changes of version 2").click()
    await expect(page.get_by_role("table", name="Changes")).to_be_visible()
    await take(page, "history")

    await page.get_by_role("button", name="Close").click()
    await page.get_by_role("link", name="Vitals").click()
    await expect(page.get_by_role("img", name="heap_free_bytes")).to_be_visible()
    await take(page, "vitals")

    await fleet.ask(admin.SCHEDULE_SET, expression="30 3 * * 0", zone="Europe/Berlin")
    await fleet.ask(admin.ROTATION_START, all=True)
    await go(page, "rotation")
    ended = page.get_by_role("region", name="Recently ended").get_by_role("listitem")
    await expect(ended.nth(4)).to_be_visible(timeout=60_000)
    await expect(page.get_by_role("table", name="Rotations in progress")).to_be_visible(timeout=30_000)
    await take(page, "rotation", "dark")

    plan = {"waves": ["2", "50%", "100%"], "failure_limit": "10%", "soak_s": 0}
    started = await fleet.ask(admin.ROLLOUT_START, model=MODEL, version="1.1.0", plan=plan, skip=True)
    await go(page, f"rollout/{started.rollout}")
    await expect(page.get_by_role("button", name="Resume")).to_be_visible(timeout=120_000)
    await take(page, "rollout", "dark")
    await page.set_viewport_size({"width": 390, "height": 780})
    await go(page, "")
    await expect(page.get_by_role("heading", name="Overview")).to_be_visible()
    await take(page, "small", "dark")


@asynccontextmanager
async def shining(fleet: Fleet, lamps: dict[str, Package]) -> AsyncIterator[None]:
    """Let the lamps be on, but one; some do not like new firmware."""
    async with AsyncExitStack() as power:
        for room, package in lamps.items():
            if room != "stairs":
                test = (lambda _version: "the lamp stays dark") if room in BROKEN else (lambda _version: None)
                await power.enter_async_context(fleet.powered(package, hooks=Hooks(self_test=test)))
        for room, package in lamps.items():
            if room != "stairs":
                await fleet.until(package, lambda view: view.config_outcome == "applied")
        yield


async def photograph(running: System, folder: Path) -> None:
    """Take all pictures."""
    FOLDER.mkdir(exist_ok=True)
    async with (
        Admin(running.profile) as connected,
        watching(connected) as witness,
        async_playwright() as playwright,
    ):
        fleet = Fleet(connected, witness, folder)
        lamps = await populate(fleet)
        browser = await playwright.chromium.launch(executable_path=CHROMIUM, args=ARGUMENTS)
        context = await browser.new_context(
            ignore_https_errors=True, viewport={"width": 1280, "height": 760}, color_scheme="light"
        )
        page = await context.new_page()
        await visit(page, running)
        await measure(running, lamps["desk"])
        async with shining(fleet, lamps):
            await tour(page, fleet, lamps, running.profile.password.get_secret_value())
        await browser.close()


def main() -> None:
    """Start all, take the pictures, end all."""
    with (
        stack.scratch("screenshots-") as folder,
        stack.running(folder) as servers,
        system.running(servers, MDM_ROTATION_DEADLINE_S="30") as running,
    ):
        asyncio.run(photograph(running, folder))


if __name__ == "__main__":
    main()
