"""Connection profiles in the page: changed with a look at the effect before, followed, and put back."""

from __future__ import annotations

from pathlib import Path
from uuid import uuid4

import pytest
from playwright.async_api import Locator, Page, expect

from deploy import certificates
from dev.fleet import Fleet
from dev.system import PAGE
from shared.protocol import admin, messages, topics
from shared.protocol.messages import ConfigGet, ConnectionState
from tests.raw import RawDevice
from tests.web.conftest import go

PASSWORD = "correct horse battery"


async def report(device: RawDevice, **state: object) -> None:
    """Request the configuration with a report of the device's profiles."""
    connection = ConnectionState.model_validate(state)
    await device.send(topics.CONFIG_GET, ConfigGet(request_id=uuid4().hex, connection=connection))


async def faults(page: Page) -> list[str]:
    """Return what keeps people out of the page as it is, and whether it is wider than the screen."""
    found = await page.evaluate("axe.run(document, { resultTypes: ['violations'] })")
    wide = await page.evaluate("document.documentElement.scrollWidth - innerWidth")
    return [f"{it['id']}: {it['nodes'][0]['html']}" for it in found["violations"]] + ["too wide"] * (wide > 0)


async def open_form(page: Page, tag: str) -> Locator:
    await page.get_by_label("Devices", exact=True).select_option("tag")
    await page.get_by_label("Tag", exact=True).fill(tag)
    await page.get_by_role("button", name="Change profile").click()
    return page.get_by_role("dialog", name=f"Profile of devices with the tag {tag}")


async def test_a_profile_is_changed_after_a_look_at_its_effect_refused_sent_again_and_put_back(  # noqa: PLR0915 - one story
    page: Page, fleet: Fleet
) -> None:
    tag = f"t{uuid4().hex[:8]}"
    package = await fleet.device(tags=[tag])
    first = package.connection_id
    async with RawDevice(package, online=True) as device:
        await report(device, first=first, in_use=first)
        await go(page, "connections")
        form = await open_form(page, tag)
        await form.get_by_label("Host").fill("with blank.test")
        await form.get_by_role("button", name="Show what it does").click()
        await expect(form.get_by_text("mqtt_host: ")).to_be_visible()
        await expect(form.get_by_label("Host")).to_be_focused()
        await form.get_by_label("Host").fill("localhost")
        await form.get_by_label("Wi-Fi", exact=True).select_option("new")
        await form.get_by_label("Name of network 1").fill("home")
        await form.get_by_label("Password of network 1").fill(PASSWORD)
        await form.get_by_role("button", name="Show what it does").click()
        await expect(form.get_by_text("1 device wants another profile by this; 1 of them move")).to_be_visible()
        assert not any(it.tag == tag for it in (await fleet.ask(admin.CONNECTION_HISTORY)).layers)
        await form.get_by_role("button", name="Save").click()
        await expect(page.get_by_text("is in force.")).to_be_visible()
        layers = page.get_by_role("table", name="Layers")
        row = layers.get_by_role("row").filter(has_text=f"tag {tag}")
        await expect(row).to_contain_text("mqtt_host: localhost")
        await expect(row).to_contain_text("wifi: home")
        offer: messages.ConnectionOffer = await device.receive(topics.CONNECTION)
        assert offer.profile is not None
        assert offer.profile.wifi == [messages.WifiNetwork(ssid="home", password=PASSWORD)]
        used = page.get_by_role("table", name="Profiles").get_by_role("row").filter(has_text=offer.connection_id)
        await expect(used.get_by_role("cell")).to_have_text([offer.connection_id, "0", "0", "1", "0"])

        refused = {"connection_id": offer.connection_id, "outcome": "reverted", "reason": "no answer"}
        await report(device, first=first, in_use=first, refused=refused)
        await expect(used.get_by_role("cell")).to_have_text([offer.connection_id, "0", "0", "0", "1"])
        await go(page, f"device/{package.client_id}/connection")
        panel = page.get_by_role("region", name="Connection profile")
        await expect(panel.get_by_text(f"{first} → {offer.connection_id} (reverted since")).to_contain_text(
            "no answer"
        )
        await expect(panel.get_by_role("row", name=f"mqtt_host localhost tag {tag}")).to_be_visible()
        await expect(panel.get_by_role("row", name="mqtt_port")).to_contain_text("settings")
        await panel.get_by_role("button", name="Send again").click()
        await expect(panel.get_by_text("is sent the wanted profile again")).to_be_visible()
        await report(device, first=first, in_use=first, refused=refused)
        assert (await device.receive(topics.CONNECTION)).connection_id == offer.connection_id

        await report(device, first=offer.connection_id, fallback=first, in_use=offer.connection_id)
        await expect(panel.get_by_text(f"{offer.connection_id}, as wanted")).to_be_visible()
        await go(page, "connections")
        form = await open_form(page, tag)
        await expect(form.get_by_label("Wi-Fi", exact=True)).to_have_value("kept")
        await expect(page.get_by_text(PASSWORD)).to_have_count(0)
        await form.get_by_role("button", name="Remove layer").click()
        asked = page.get_by_role("dialog", name="Remove the layer")
        await expect(asked.get_by_text("1 device wants another profile by this; 1 of them move")).to_be_visible()
        await asked.get_by_role("button", name="Remove layer").click()
        await expect(row.first).to_contain_text("removed")
        await row.last.get_by_role("button", name="Put back").click()
        asked = page.get_by_role("dialog", name="Put layer")
        await asked.get_by_role("button", name="Put back").click()
        await expect(row).to_have_count(3)
        shown = await fleet.ask(admin.CONNECTION_SHOW, device=package.client_id)
        assert shown.connection_id == offer.connection_id
        await fleet.ask(admin.CONNECTION_REMOVE, tag=tag)


async def test_an_authority_is_added_from_a_file_to_those_of_the_layers_below(
    page: Page, fleet: Fleet, tmp_path: Path
) -> None:
    package = await fleet.device()
    successor = certificates.ensure_authority(tmp_path).certificate
    await go(page, f"device/{package.client_id}/connection")
    await page.get_by_role("button", name="Change profile").click()
    form = page.get_by_role("dialog")
    await form.get_by_role("button", name="Add those of the layers below").click()
    await form.get_by_label("Add authorities from files").set_input_files(successor)
    await form.get_by_role("button", name="Show what it does").click()
    await expect(form.get_by_text("1 of them cannot: they have never reported a profile.")).to_be_visible()
    await form.get_by_role("button", name="Save").click()
    await expect(page.get_by_text("is in force.")).to_be_visible()
    shown = await fleet.ask(admin.CONNECTION_SHOW, device=package.client_id)
    (pem,) = [it.value for it in shown.values if it.field == "ca_certificate"]
    assert pem == f"{package.ca_certificate}{successor.read_text()}"


@pytest.mark.parametrize("width", [390, 1280])
async def test_nothing_of_the_profiles_keeps_people_out(page: Page, fleet: Fleet, width: int) -> None:
    package = await fleet.device()
    await page.set_viewport_size({"width": width, "height": 800})
    await page.evaluate((PAGE.parent / "node_modules/axe-core/axe.min.js").read_text())
    await go(page, f"device/{package.client_id}/connection")
    await expect(page.get_by_role("table", name="Values of the profile")).to_be_visible()
    assert await faults(page) == []
    await go(page, "connections")
    await expect(page.get_by_role("table", name="Layers")).to_be_visible()
    assert await faults(page) == []
    form = await open_form(page, "any")
    await form.get_by_label("Wi-Fi", exact=True).select_option("new")
    await expect(form.get_by_label("Name of network 1")).to_be_visible()
    assert await faults(page) == []
