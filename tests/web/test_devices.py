"""Devices in the page: made, configured, commanded, and many of them."""

from __future__ import annotations

import json
from datetime import UTC, datetime
from uuid import uuid4

import pytest
from playwright.async_api import Page, expect

from cli.client import AnswerError
from dev.credentials import account_client, device_client
from dev.database import run
from dev.fleet import Fleet, powered
from dev.system import System
from dev.uploads import build, upload
from device.options import Done, Hooks
from shared.protocol import admin, messages, topics
from shared.protocol.events import DEVICE_ONLINE
from tests.downloads import check
from tests.raw import RawDevice
from tests.swarm import status
from tests.web.conftest import go, log_in
from tests.web.crowd import crowd

SCHEMA = {
    "properties": {
        "led": {
            "properties": {
                "brightness": {"type": "integer", "minimum": 0, "maximum": 100},
                "color": {"enum": ["red", "green"]},
            }
        },
        "label": {"type": "string"},
    }
}
MANY = 5_000
EVENTS = 2_000
MOST_ROWS = 60
WATCH = """() => {
  window.changes = 0;
  window.frames = 0;
  new MutationObserver(() => { window.changes += 1; })
    .observe(document.querySelector('[role="table"]'), { subtree: true, childList: true, characterData: true });
  const count = () => { window.frames += 1; requestAnimationFrame(count); };
  requestAnimationFrame(count);
}"""


async def test_a_device_is_added_and_found(page: Page, fleet: Fleet) -> None:
    model = await fleet.model()
    await page.get_by_role("link", name="Devices", exact=True).click()
    await page.get_by_role("button", name="Add device").click()
    dialog = page.get_by_role("dialog", name="Add device")
    await dialog.get_by_label("Model").select_option(model)
    await dialog.get_by_label("Name").fill("kitchen-light")
    await dialog.get_by_label("Tags").fill("kitchen two words!")
    await dialog.get_by_role("button", name="Add").click()
    await expect(dialog.get_by_label("Tags")).to_have_attribute("aria-invalid", "true")
    await dialog.get_by_label("Tags").fill("kitchen upstairs")
    await dialog.get_by_role("button", name="Add").click()
    async with page.expect_download() as saving:
        await dialog.get_by_role("button", name="Download package").click()
    package = admin.Package.model_validate_json((await (await saving.value).path()).read_bytes())
    (view,) = (await fleet.ask(admin.DEVICE_LIST, model=model)).devices
    assert (view.client_id, view.name, view.tags) == (package.client_id, "kitchen-light", ["kitchen", "upstairs"])
    await page.keyboard.press("Escape")
    await expect(dialog).to_have_count(0)
    await expect(page.get_by_role("button", name="Add device")).to_be_focused()
    await page.get_by_label("Search devices").fill(f"model:{model} UPSTAIRS online:no")
    await expect(page.get_by_role("table", name="Devices").get_by_role("row")).to_have_count(2)
    await page.get_by_role("link", name="kitchen-light").click()
    await expect(page.get_by_role("heading", name="kitchen-light")).to_be_visible()


async def test_what_is_wrong_with_a_board_is_shown(page: Page, fleet: Fleet) -> None:
    package = await fleet.device()
    async with device_client(package) as device:
        odd = json.dumps({"online": True, "rssi_dbm": 999})
        await device.publish(topics.STATUS.of(client_id=package.client_id), odd, qos=1, retain=True)
        await fleet.until(package, lambda view: view.online)
    await go(page, f"device/{package.client_id}")
    flaw = page.get_by_role("listitem").filter(has_text="up/status")
    await expect(flaw).to_contain_text("rssi_dbm")
    await expect(page.get_by_role("alert")).to_have_count(0)
    async with powered(package, fleet.folder / "one"), powered(package, fleet.folder / "other"):
        await fleet.seen(package, "device/clashed")
        await expect(page.get_by_role("alert")).to_contain_text("Two boards have this identity")
    await fleet.ask(admin.DEVICE_REMOVE, device=package.client_id)


async def test_what_is_wanted_for_a_device_and_why_it_is_withheld_is_shown(page: Page, fleet: Fleet) -> None:
    model = await fleet.model()
    package = await fleet.device(model)
    async with RawDevice(package) as device:
        await device.send(topics.STATUS, status("another project"))
        await fleet.until(package, lambda view: view.online)
        await go(page, f"device/{package.client_id}")
        firmware = page.get_by_role("table", name="In use and wanted").get_by_role("row", name="Firmware")
        await expect(firmware.get_by_text("1.0.0", exact=True)).to_be_visible()
        await upload(fleet, model, build(model, "1.1.0"))
        reason = f"withheld: project: the image is {model}, the device runs another project"
        await expect(firmware.get_by_text("1.1.0", exact=True)).to_be_visible()
        await expect(firmware.get_by_text(reason)).to_be_visible()
        await go(page, "devices")
        await page.get_by_label("Search devices").fill(f"model:{model}")
        await expect(page.get_by_text("→ 1.1.0 (withheld)")).to_be_visible()
        await device.send(topics.STATUS, status(model))
        await device.send(topics.FIRMWARE_CHECK, check(model))
        await expect(page.get_by_text("→ 1.1.0 (offered)")).to_be_visible()


async def test_a_device_is_renamed_tagged_and_removed_after_a_question(page: Page, fleet: Fleet) -> None:
    package = await fleet.device(tags=["old"])
    await go(page, f"device/{package.client_id}")
    await page.get_by_role("button", name="Edit", exact=True).click()
    dialog = page.get_by_role("dialog", name="Edit device")
    await expect(dialog.get_by_label("Tags")).to_have_value("old")
    await dialog.get_by_label("Name").fill("hall-light")
    await dialog.get_by_label("Tags").fill("hall two words!")
    await dialog.get_by_role("button", name="Save").click()
    await expect(dialog.get_by_label("Tags")).to_have_attribute("aria-invalid", "true")
    await dialog.get_by_label("Tags").fill("hall, upstairs")
    await dialog.get_by_role("button", name="Save").click()
    await expect(page.get_by_role("heading", name="hall-light")).to_be_visible()
    view = await fleet.show(package)
    assert (view.name, view.tags) == ("hall-light", ["hall", "upstairs"])
    await page.get_by_role("button", name="Edit", exact=True).click()
    await dialog.get_by_role("button", name="Remove device").click()
    question = page.get_by_role("dialog", name="Remove the device?")
    await question.get_by_role("button", name="Cancel").click()
    await expect(question).to_have_count(0)
    await dialog.get_by_role("button", name="Remove device").click()
    await question.get_by_role("button", name="Remove permanently").click()
    await expect(page.get_by_role("heading", name="Devices")).to_be_visible()
    with pytest.raises(AnswerError, match="no device"):
        await fleet.show(package)


async def test_a_configuration_that_breaks_the_schema_is_refused_at_its_field_and_then_put_right(
    page: Page, fleet: Fleet
) -> None:
    model = await fleet.model(config_schema=SCHEMA, config_defaults={"led": {"brightness": 50}})
    package = await fleet.device(model)
    async with fleet.powered(package):
        await go(page, f"device/{package.client_id}")
        brightness = page.get_by_label("led.brightness")
        await expect(brightness).to_have_attribute("placeholder", "50")
        await brightness.fill("300")
        await page.get_by_label("led.color").select_option("green")
        await page.get_by_role("button", name="Save and push").click()
        await expect(brightness).to_have_attribute("aria-invalid", "true")
        await expect(brightness).to_have_accessible_description("300 is greater than the maximum of 100")
        await expect(brightness).to_be_focused()
        assert (await fleet.show(package)).config_version == 1
        await brightness.fill("60")
        await brightness.press("Enter")
        await expect(page.get_by_text("Version 2 was pushed to the device.")).to_be_visible()
        await expect(page.get_by_role("row", name="Configuration version 2 version 2 applied")).to_be_visible()
    found = await fleet.ask(admin.CONFIG_GET, device=package.client_id)
    assert found.overrides == {"led": {"brightness": 60, "color": "green"}}

    await page.get_by_role("link", name="History").click()
    await page.get_by_role("button", name="Changes of version 2").click()
    changes = page.get_by_role("table", name="Changes")
    await expect(changes.get_by_role("row", name="led.brightness 50 60")).to_be_visible()
    await page.get_by_role("button", name="Close").click()
    await page.get_by_role("button", name="Roll back to version 1").click()
    await expect(page.get_by_text("Version 1 was restored as version 3.")).to_be_visible()


async def test_numbers_that_javascript_cannot_hold_are_saved_as_they_were(page: Page, fleet: Fleet) -> None:
    numbers = [9007199254740993, 1.0, 1e-300, 10**30]
    package = await fleet.device(await fleet.model(config_schema=SCHEMA, config_defaults={"n": numbers[0]}))
    await fleet.ask(admin.CONFIG_SET, device=package.client_id, overrides={"a": numbers, "b": numbers[0]})
    await go(page, f"device/{package.client_id}")
    await expect(page.get_by_label("n", exact=True)).to_have_attribute("placeholder", "9007199254740993")
    await page.get_by_label("label").fill("changed in the form")
    await page.get_by_role("button", name="Save and push").click()
    await expect(page.get_by_text("Version 3 was pushed")).to_be_visible()
    await page.get_by_role("button", name="Edit as JSON").click()
    text = page.get_by_role("textbox", name="Overrides of this device")
    await text.fill((await text.input_value()).replace("in the form", "as JSON"))
    await page.get_by_role("button", name="Save and push").click()
    await expect(page.get_by_text("Version 4 was pushed")).to_be_visible()
    found = await fleet.ask(admin.CONFIG_GET, device=package.client_id)
    assert repr(found.overrides) == repr({"a": numbers, "b": numbers[0], "label": "changed as JSON"})


async def test_what_somebody_else_changes_does_not_take_away_what_is_typed(page: Page, fleet: Fleet) -> None:
    model = await fleet.model(config_schema=SCHEMA)
    package = await fleet.device(model)
    await go(page, f"device/{package.client_id}")
    await page.get_by_label("label").fill("mine")
    await fleet.ask(admin.CONFIG_SET, device=package.client_id, overrides={"label": "theirs"})
    await expect(page.get_by_text("Version 2 was saved in the meantime")).to_be_visible()
    await expect(page.get_by_label("label")).to_have_value("mine")
    # Saved all the same, it changes nothing but what was typed here.
    await page.get_by_label("led.brightness").fill("7")
    await page.get_by_label("label").fill("")
    await page.get_by_role("button", name="Save and push").click()
    await expect(page.get_by_text("Version 3 was pushed")).to_be_visible()
    await expect(page.get_by_label("label")).to_have_value("theirs")
    await fleet.ask(admin.CONFIG_SET, device=package.client_id, overrides={"label": "theirs", "led": None})
    await page.get_by_role("button", name="Load version 4").click()
    await expect(page.get_by_label("label")).to_have_value("theirs")
    await page.get_by_role("button", name="Edit as JSON").click()
    text = page.get_by_role("textbox", name="Overrides of this device")
    assert json.loads(await text.input_value()) == {"label": "theirs"}
    await text.fill('{"label": 5}')
    await page.get_by_role("button", name="Save and push").click()
    await expect(text).to_have_accessible_description("label: 5 is not of type 'string'")
    await fleet.ask(admin.CONFIG_SET, device=package.client_id, overrides={"label": "once more"})
    await text.fill('{"label": "the whole"}')
    await page.get_by_role("button", name="Save and push").click()
    await expect(page.get_by_text("admin saved version 5 in the meantime")).to_be_visible()


async def test_a_command_is_answered(page: Page, fleet: Fleet) -> None:
    model = await fleet.model(commands=["blink"])
    package = await fleet.device(model)
    hooks = Hooks(commands={"blink": lambda given: Done(result={"times": given["times"]})})
    async with fleet.powered(package, hooks=hooks):
        await fleet.until(package, lambda view: view.online)
        await go(page, f"device/{package.client_id}/commands")
        await page.get_by_label("Command", exact=True).select_option("blink")
        await page.get_by_label("Arguments").fill('{"times": 3}')
        await page.get_by_role("button", name="Send").click()
        await expect(page.get_by_role("row", name="blink times: 3").get_by_text("ok")).to_be_visible()


async def test_thousands_of_devices_are_a_few_rows_in_the_document(
    opened: Page, fleet: Fleet, system: System
) -> None:
    model, _ = await fleet.model(), await fleet.device()  # one that is not among them
    async with crowd(system.stack, model, MANY):
        page = opened
        await log_in(page, system.profile.password.get_secret_value())
        await page.get_by_role("link", name="Devices", exact=True).click()
        await page.get_by_label("Search devices").fill(f"model:{model}")
        await expect(page.get_by_role("status").filter(has_text="5,000 of")).to_be_visible()
        table = page.get_by_role("table", name="Devices")
        await expect(table).to_have_attribute("aria-rowcount", str(MANY + 1))
        assert await table.get_by_role("row").count() < MOST_ROWS
        await table.get_by_role("link", name="crowd-1 ", exact=False).first.focus()
        await page.keyboard.press("End")
        await expect(table.get_by_role("link", name=f"crowd-{MANY}")).to_be_focused()
        await page.keyboard.press("ArrowUp")
        await expect(table.get_by_role("link", name=f"crowd-{MANY - 1}")).to_be_focused()
        assert await table.get_by_role("row").count() < MOST_ROWS


async def test_a_storm_of_events_changes_the_list_at_most_once_for_each_frame(
    opened: Page, fleet: Fleet, system: System
) -> None:
    model, _ = await fleet.model(), await fleet.device()  # one that is not among them
    async with (
        crowd(system.stack, model, MANY) as ids,
        account_client(system.stack.endpoints, "svc-registry") as registry,
    ):
        page = opened
        await log_in(page, system.profile.password.get_secret_value())
        await page.get_by_role("link", name="Devices", exact=True).click()
        await page.get_by_label("Search devices").fill(f"model:{model}")
        await expect(page.get_by_role("status").filter(has_text="5,000 of")).to_be_visible()
        await page.evaluate(WATCH)
        await run(system.stack, "UPDATE mdm.devices SET name = 'told-last' WHERE name = 'crowd-1'")
        for client_id in (*ids[:EVENTS], ids[0]):
            event = messages.Event(event_id=uuid4(), at=datetime.now(UTC), client_id=client_id)
            await registry.publish(DEVICE_ONLINE.topic.of(), DEVICE_ONLINE.topic.encode(event))
        await expect(page.get_by_role("link", name="told-last")).to_be_visible()
        changes, frames = await page.evaluate("[window.changes, window.frames]")
        assert 0 < changes <= frames
        assert changes < EVENTS / 2
