"""From nothing to a device that is configured, updated and rotated, and what else `mdm` can do: by the page."""

from __future__ import annotations

import asyncio
import csv
import io
import json
import re
import zipfile
from pathlib import Path
from uuid import uuid4

from playwright.async_api import Download, FilePayload, Locator, Page, expect

from dev.fleet import OPTIONS, Fleet
from dev.system import System
from dev.uploads import build
from device.claim import Machine
from shared.protocol import admin
from tests.claims import new_uid
from tests.web.conftest import go, log_in


async def saved(download: Download) -> bytes:
    return (await download.path()).read_bytes()


def file(data: bytes) -> FilePayload:
    return {"name": "app.bin", "mimeType": "application/octet-stream", "buffer": data}


def dialog(page: Page, name: str) -> Locator:
    return page.get_by_role("dialog", name=name)


async def press(place: Page | Locator, name: str) -> None:
    await place.get_by_role("button", name=name, exact=True).click()


async def add_model(page: Page, model: str) -> None:
    """Add a model with a number and a secret as its settings."""
    await go(page, "models")
    await press(page, "Add model")
    form = dialog(page, "Add model")
    await form.get_by_label("Code").fill(model)
    await press(form, "Add setting")
    await form.get_by_label("Setting", exact=True).fill("interval_s")
    await form.get_by_label("Minimum").fill("1")
    await form.get_by_label("Default").fill("60")
    await press(form, "Add setting")
    password = form.get_by_role("group").last
    await password.get_by_label("Setting", exact=True).fill("api.key")
    await password.get_by_label("Type").select_option("text")
    await password.get_by_label("Secret").check()
    await press(form, "Add")
    await expect(page.get_by_role("row", name=model)).to_be_visible()


async def add_device(page: Page, model: str) -> admin.Package:
    """Add a device and go to it; return its package, as the page saves it."""
    await go(page, "devices")
    await press(page, "Add device")
    form = dialog(page, "Add device")
    await form.get_by_label("Model").select_option(model)
    await form.get_by_label("Name").fill("cellar")
    await form.get_by_label("Tags").fill("tour")
    await press(form, "Add")
    async with page.expect_download() as saving:
        await press(form, "Download package")
    await form.get_by_role("link", name="Go to the device").click()
    return admin.Package.model_validate_json(await saved(await saving.value))


async def upload(page: Page, model: str) -> None:
    """Upload what is no image, then an image, and release it."""
    await go(page, "firmware")
    await press(page, "Upload image")
    form = dialog(page, "Upload image")
    await form.get_by_label("Model").select_option(model)
    await form.get_by_label("File").set_input_files(file(b"no image at all" * 100))
    await press(form, "Upload")
    await expect(form.get_by_role("alert")).to_contain_text("expected an application image, found text")
    await form.get_by_label("File").set_input_files(file(build(model, "1.1.0", size_bytes=100_000)))
    await press(form, "Upload")
    await expect(form.get_by_text("1 device would take it")).to_be_visible()
    await press(form, "Release to 1 device")


async def test_from_nothing_to_an_updated_device(page: Page, fleet: Fleet) -> None:
    model = f"tour_{uuid4().hex[:6]}"
    await add_model(page, model)
    (made,) = [it for it in (await fleet.ask(admin.MODEL_LIST)).models if it.code == model]
    assert (made.config_defaults, made.sealed) == ({"interval_s": 60}, ["api.key"])
    package = await add_device(page, model)
    async with fleet.powered(package):
        await expect(page.get_by_text("online", exact=True)).to_be_visible()
        await page.get_by_label("interval_s").fill("30")
        await press(page, "Save and push")
        await fleet.until(package, lambda view: view.config_version_reported == 2)

        await upload(page, model)
        await fleet.seen(package, "firmware/reported", stage="confirmed")
        await expect(page.get_by_role("row", name=f"{model} 1.1.0").get_by_text("released")).to_be_visible()

        await go(page, f"device/{package.client_id}")
        await press(page, "Rotate secret")
        await fleet.seen(package, "rotation/completed")

        await go(page, "commands")
        await page.get_by_label("Devices").select_option(f"model {model}")
        await page.get_by_label("Command", exact=True).select_option("identify")
        await press(page, "Send to 1 device")
        await expect(page.get_by_text("identify for 1 device?")).to_be_visible()
        await press(page, "Yes, send to 1 device")
        row = page.get_by_role("table", name="Commands").get_by_role("row", name="cellar").first
        await expect(row.get_by_text("ok")).to_be_visible()


async def test_a_layer_reaches_the_devices_with_its_tag(page: Page, fleet: Fleet) -> None:
    tag = f"floor-{uuid4().hex[:6]}"
    package = await fleet.device(tags=[tag])
    await go(page, "layers")
    await press(page, "Add layer")
    form = dialog(page, "Add layer")
    await form.get_by_label("Tag").fill(tag)
    await form.get_by_label("Settings").fill('{"interval_s": ')
    await press(form, "Add")
    await expect(form.get_by_label("Settings")).to_have_attribute("aria-invalid", "true")
    await form.get_by_label("Settings").fill('{"interval_s": 9}')
    await press(form, "Add")
    await expect(page.get_by_text(f"1 device with the tag {tag}")).to_be_visible()
    found = await fleet.ask(admin.CONFIG_GET, device=package.client_id)
    assert found.document == {"interval_s": 9}
    await go(page, f"device/{package.client_id}")
    await expect(page.get_by_text(f"from the layer {tag}")).to_be_visible()
    await go(page, "layers")
    await page.get_by_role("button", name=f"Remove {tag}").click()
    await press(dialog(page, f"Remove the layer of {tag}?"), "Remove layer")
    await expect(page.get_by_role("row", name=tag)).to_have_count(0)


async def test_a_machine_that_claims_appears_and_is_approved(page: Page, fleet: Fleet, tmp_path: Path) -> None:
    model = await fleet.model()
    await go(page, "claims")
    await press(page, "Create claim")
    form = dialog(page, "Create claim")
    await form.get_by_label("Model of the machines").select_option(model)
    await form.get_by_label("Ask before a machine").check()
    async with page.expect_download() as saving:
        await press(form, "Create and download its package")
    claim = admin.ClaimPackage.model_validate(json.loads(await saved(await saving.value)))
    uid = new_uid()
    waiting = asyncio.create_task(Machine(claim, uid, tmp_path / "machine", OPTIONS).package())
    row = page.get_by_role("row", name=uid)
    await expect(row.get_by_text("waits for approval")).to_be_visible()
    await press(row, "Approve")
    await press(dialog(page, f"Approve {uid}?"), "Approve")
    package = await waiting
    await expect(row.get_by_role("link", name=package.client_id)).to_be_visible()
    await expect(page.get_by_role("row", name=claim.account).get_by_text("used up")).to_be_visible()


async def test_an_account_is_added_logs_in_and_is_removed(page: Page, system: System) -> None:
    await go(page, "accounts")
    await press(page, "Add account")
    form = dialog(page, "Add account")
    await form.get_by_label("Name").fill("guest")
    await form.get_by_label("Role").select_option("viewer")
    await press(form, "Add")
    shown = dialog(page, "Password of guest")
    password = await shown.locator("code").inner_text()
    await press(shown, "Done")
    await expect(page.get_by_role("row", name="guest viewer")).to_be_visible()
    await press(page, "Log out")
    await log_in(page, password, "guest")
    await go(page, "accounts")
    await expect(page.get_by_text("This needs the role admin; your account is viewer.")).to_be_visible()
    await press(page, "Log out")
    await log_in(page, system.profile.password.get_secret_value())
    await go(page, "accounts")
    await page.get_by_role("button", name="Remove guest").click()
    await press(dialog(page, "Remove guest?"), "Remove")
    await expect(page.get_by_role("row", name="guest")).to_have_count(0)


async def test_the_doctor_finds_that_all_is_well(page: Page, fleet: Fleet) -> None:
    await fleet.device()
    await go(page, "doctor")
    for title in ("Devices and accounts", "Images and firmware"):
        region = page.get_by_role("region", name=title)
        await expect(region.get_by_text("All is well").or_(region.get_by_role("table"))).to_be_visible()


async def test_the_list_is_filtered_sorted_saved_and_acted_upon(page: Page, fleet: Fleet) -> None:
    model = await fleet.model()
    tag = f"list-{uuid4().hex[:6]}"
    packages = [await fleet.device(model, tags=[tag]) for _ in range(3)]
    for package, name in zip(packages, ("a", "c", "b"), strict=True):
        await fleet.ask(admin.DEVICE_UPDATE, device=package.client_id, name=f"{tag}-{name}")
    table = page.get_by_role("table", name="Devices")
    names = table.get_by_role("row").get_by_role("link").locator("b")
    search = page.get_by_label("Search devices")
    await go(page, "devices")
    await search.fill(f"model:{model} nobody")
    await expect(page.get_by_text(f"No devices match “model:{model} nobody”.")).to_be_visible()
    await search.fill("")
    await fleet.ask(admin.DEVICE_UPDATE, device=packages[2].client_id, enabled=False)
    await page.get_by_label("Filters").get_by_role("button", name="health disabled").click()
    await expect(search).to_have_value("health:disabled")
    await search.fill(f"model:{model}")
    chip = page.get_by_label("Filters").get_by_role("button", name=f"model {model}")
    await expect(chip).to_have_attribute("aria-pressed", "true")
    await expect(names).to_have_text([f"{tag}-{name}" for name in ("a", "c", "b")])
    await table.get_by_role("button", name="Device").click()
    await expect(names).to_have_text([f"{tag}-{name}" for name in ("a", "b", "c")])
    await table.get_by_role("button", name="Device").click()
    await expect(names).to_have_text([f"{tag}-{name}" for name in ("c", "b", "a")])

    await press(page, "Save this view")
    await dialog(page, "Save view").get_by_label("Name").fill("mine")
    await press(dialog(page, "Save view"), "Save")
    await search.fill("nothing:here")
    await expect(page.get_by_text("There is no search term nothing:here")).to_be_visible()
    await press(page, "mine")
    await expect(search).to_have_value(f"model:{model}")
    await press(page, "Forget this view")
    await expect(page.get_by_role("button", name="mine", exact=True)).to_have_count(0)

    await table.get_by_label("Select all").check()
    await table.get_by_label(f"Select {tag}-b").uncheck()
    bulk = page.get_by_role("group", name="Selected devices")
    await expect(bulk.get_by_text("2 devices selected")).to_be_visible()
    await press(bulk, "Tags")
    form = dialog(page, "Tags of 2 devices")
    await form.get_by_label("Add tags").fill("seen")
    await form.get_by_label("Remove tags").fill(tag)
    await press(form, "Change 2 devices")
    await expect(bulk.get_by_text("Done for 2 devices.")).to_be_visible()
    assert [(await fleet.show(it)).tags for it in packages] == [["seen"], ["seen"], [tag]]

    await fleet.ask(admin.DEVICE_REMOVE, device=packages[0].client_id)
    await expect(bulk.get_by_text("1 device selected")).to_be_visible()
    await press(bulk, "Disable")
    await press(dialog(page, "Disable 1 device?"), "Disable")
    await fleet.until(packages[1], lambda view: not view.enabled)


async def test_a_rule_of_notifications_is_added_tested_and_removed(page: Page) -> None:
    name = f"r-{uuid4().hex[:6]}"
    await go(page, "notifications")
    await press(page, "Add rule")
    form = dialog(page, "Add rule")
    await form.get_by_label("Name").fill(name)
    await form.get_by_label("When").select_option("a rollout has halted")
    await form.get_by_label("To").fill("no url")
    await press(form, "Add")
    await expect(form.get_by_label("To")).to_have_attribute("aria-invalid", "true")
    await form.get_by_label("To").fill("http://127.0.0.1:9/hook")
    await press(form, "Add")
    await press(dialog(page, f"Signing key of {name}"), "Done")
    await page.get_by_role("button", name=f"Test {name}").click()
    await expect(page.get_by_role("table", name="Messages").get_by_role("row", name=name)).to_be_visible()
    await page.get_by_role("button", name=f"Remove {name}").click()
    await press(dialog(page, f"Remove {name}?"), "Remove rule")
    await expect(page.get_by_role("row", name=name)).to_have_count(0)


async def test_a_table_is_imported_and_saved_with_the_packages(page: Page, fleet: Fleet, system: System) -> None:
    model, tag = await fleet.model(), f"import-{uuid4().hex[:6]}"
    present = await fleet.ask(admin.DEVICE_ADD, model=model, name="hall")
    table = f"Name;Tags;Room\nhall;x;1\nKüche;{tag};2\nstairs;no/tag;3\nattic;{tag};4\n".encode("cp1252")
    await go(page, "devices")
    await press(page, "Import")
    form = dialog(page, "Import devices")
    await form.get_by_label("Model of lines without one").select_option(model)
    await form.get_by_label("File").set_input_files(
        {"name": "devices.csv", "mimeType": "text/csv", "buffer": table}
    )
    counts = "4 lines: {} devices to be added, {} added, 1 present already, 1 refused. Ignored columns: room."
    await expect(form.get_by_text(counts.format(2, 0))).to_be_visible()
    await expect(form.get_by_role("row", name="4 refused")).to_contain_text("no/tag must be 1 to 50 of")
    await expect(form.get_by_role("row", name="3 will be added")).to_contain_text("Küche")
    await press(form, "Add 2 devices")
    await expect(form.get_by_text(counts.format(0, 2))).to_be_visible()
    async with page.expect_download() as saving:
        await press(form, "Download packages and table")
    with zipfile.ZipFile(io.BytesIO(await saved(await saving.value))) as archive:
        rows = list(csv.DictReader(io.StringIO(archive.read("devices.csv").decode())))
        packages = [
            admin.Package.model_validate_json(archive.read(name))
            for name in archive.namelist()
            if name.endswith(".json")
        ]
        assert {it.external_attr >> 16 for it in archive.infolist()} == {0o600}
    assert [it["result"] for it in rows] == ["present", "added", "refused", "added"]
    assert rows[0]["client_id"] == present.client_id
    assert {it.client_id for it in packages} == {it["client_id"] for it in rows} - {""}
    views = [await fleet.show(it) for it in packages]
    assert {(it.name, *it.tags) for it in views} == {("hall",), ("Küche", tag), ("attic", tag)}

    # The same file again adds nothing, also if the page had not known.
    await page.reload()
    await log_in(page, system.profile.password.get_secret_value())
    await go(page, "devices")
    await press(page, "Import")
    await form.get_by_label("Model of lines without one").select_option(model)
    await form.get_by_label("File").set_input_files(
        {"name": "devices.csv", "mimeType": "text/csv", "buffer": table}
    )
    await expect(form.get_by_text("0 devices to be added, 0 added, 3 present already, 1 refused.")).to_be_visible()
    await expect(form.get_by_role("button", name=re.compile("^Add"))).to_have_count(0)


async def test_a_file_that_is_no_table_is_refused_and_a_device_of_somebody_else_is_not_doubled(
    page: Page, fleet: Fleet
) -> None:
    model = await fleet.model()
    await go(page, "devices")
    await press(page, "Import")
    form = dialog(page, "Import devices")
    await form.get_by_label("File").set_input_files(
        {"name": "devices.xlsx", "mimeType": "application/zip", "buffer": b"PK\x03\x04"}
    )
    await expect(form.get_by_text("The file is a workbook; save it as CSV.")).to_be_visible()
    await form.get_by_label("File").set_input_files(
        {"name": "devices.csv", "mimeType": "text/csv", "buffer": f"model,name\n{model},hall\n".encode()}
    )
    await expect(form.get_by_text("1 device to be added")).to_be_visible()
    # Somebody else adds it meanwhile.
    other = await fleet.ask(admin.DEVICE_ADD, model=model, name="hall")
    await expect(form.get_by_text("1 present already")).to_be_visible()
    assert [it.client_id for it in (await fleet.ask(admin.DEVICE_LIST, model=model)).devices] == [other.client_id]


async def test_the_columns_of_the_list_are_chosen_and_kept(page: Page, fleet: Fleet, system: System) -> None:
    package = await fleet.device(tags=["a-tag"])
    head = page.get_by_role("table", name="Devices").get_by_role("columnheader")
    usual = ["", "Device", "State", "Health", "Model", "Configuration", "Secret", "Firmware", "Last seen"]
    await go(page, "devices")
    await expect(head).to_have_text(usual)
    try:
        await press(page, "Columns")
        form = dialog(page, "Columns of the list")
        await form.get_by_label("Tags").check()
        for name in ("State", "Health", "Configuration", "Secret", "Firmware"):
            await form.get_by_label(name, exact=True).uncheck()
        await press(form, "Show")
        await expect(head).to_have_text(["", "Device", "Model", "Tags", "Last seen"])
        await page.reload()
        await log_in(page, system.profile.password.get_secret_value())
        await go(page, "devices")
        await expect(head).to_have_text(["", "Device", "Model", "Tags", "Last seen"])
        await page.get_by_label("Search devices").fill(package.client_id)
        await expect(page.get_by_role("row", name=package.client_id)).to_contain_text("a-tag")
        await page.set_viewport_size({"width": 390, "height": 800})
        await expect(head.filter(visible=True)).to_have_text(["", "Device", "Model", "Tags"])
    finally:
        await page.evaluate("localStorage.removeItem('mdm-columns')")
        await page.set_viewport_size({"width": 1280, "height": 800})
