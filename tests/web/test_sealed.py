"""Sealed settings in the page: set, kept, replaced and cleared, and never shown."""

from __future__ import annotations

import json
from typing import Any

from playwright.async_api import Page, expect

from dev.fleet import Fleet
from shared.protocol import admin, messages, topics
from shared.protocol.admin import Package
from tests.raw import RawDevice
from tests.web.conftest import go

SCHEMA = {
    "properties": {
        "wifi": {"properties": {"ssid": {"type": "string"}, "psk": {"$ref": "#/$defs/psk"}}},
        "pin": {"type": "integer", "writeOnly": True},
        "api": {"type": "string", "writeOnly": True},
    },
    "$defs": {"psk": {"type": "string", "writeOnly": True, "minLength": 8}},
}


async def asked(package: Package) -> dict[str, Any] | None:
    """Return the document that a device gets."""
    async with RawDevice(package) as device:
        question = messages.ConfigGet(request_id="1")
        return (await device.ask(topics.CONFIG_GET, question, topics.CONFIG)).document


async def test_a_sealed_setting_is_set_kept_replaced_and_cleared_and_never_shown(page: Page, fleet: Fleet) -> None:
    package = await fleet.device(await fleet.model(config_schema=SCHEMA, config_defaults={"api": "Zq-api-7Kx"}))
    name = package.client_id
    save = page.get_by_role("button", name="Save and push")

    await go(page, f"device/{name}")
    psk, pin = page.get_by_label("wifi.psk"), page.get_by_label("pin")
    await expect(psk).to_have_attribute("type", "password")
    await expect(pin).to_have_attribute("type", "password")
    await expect(pin).to_have_attribute("placeholder", "not set")
    await expect(page.get_by_label("api")).to_have_attribute("placeholder", "set by its layers or its model")
    await pin.fill("many")
    await save.click()
    await expect(pin).to_have_accessible_description("is not a number")
    await pin.fill("31337")
    await psk.fill("Zq-2sho")
    await save.click()
    await expect(psk).to_have_accessible_description("must fit minLength 8; the value is sealed and not shown")
    await psk.fill("Zq-first-7Kx")
    await save.click()
    await expect(page.get_by_text("Version 2 was pushed")).to_be_visible()
    await expect(psk).to_have_attribute("placeholder", "set")
    await expect(psk).to_have_value("")
    assert await asked(package) == {"api": "Zq-api-7Kx", "pin": 31337, "wifi": {"psk": "Zq-first-7Kx"}}

    # What is typed and taken away again, and another setting, keep it.
    await psk.fill("x")
    await psk.fill("")
    await page.get_by_label("wifi.ssid").fill("home")
    await save.click()
    await expect(page.get_by_text("Version 3 was pushed")).to_be_visible()
    await page.get_by_role("button", name="Edit as JSON").click()
    text = page.get_by_role("textbox", name="Overrides of this device")
    shown = json.loads(await text.input_value())
    assert shown == (await fleet.ask(admin.CONFIG_GET, device=name)).overrides
    await text.fill(json.dumps({**shown, "more": 1}))
    await save.click()
    await expect(page.get_by_text("Version 4 was pushed")).to_be_visible()
    whole = {"api": "Zq-api-7Kx", "pin": 31337, "more": 1, "wifi": {"psk": "Zq-first-7Kx", "ssid": "home"}}
    assert await asked(package) == whole

    await psk.fill("Zq-second-7Kx")
    await page.locator(".field").filter(has=pin).get_by_role("button", name="Clear").click()
    await save.click()
    await expect(page.get_by_text("Version 5 was pushed")).to_be_visible()
    await expect(pin).to_have_attribute("placeholder", "not set")
    del whole["pin"]
    assert await asked(package) == {**whole, "wifi": {"psk": "Zq-second-7Kx", "ssid": "home"}}
    for place in ("", "/history"):
        await go(page, f"device/{name}{place}")
        assert "7Kx" not in await page.content()
    await go(page, f"audit/{name}")
    await expect(page.get_by_text("config.set").first).to_be_visible()
    assert "7Kx" not in await page.content()
