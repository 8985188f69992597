"""A device is flashed from the page: over Web Serial, whose board is an emulated one, or with files."""

from __future__ import annotations

import asyncio
import re

import pytest
from playwright.async_api import Page, expect

from dev import credentials
from dev.fleet import Fleet
from dev.system import System
from dev.uploads import build, upload
from device import image_builder
from shared.protocol import admin
from shared.protocol.admin import Package, Role
from tests import nvs_reader
from tests.integration.test_accounts import new_account
from tests.web.board import TABLE_OFFSET, TWO_SLOTS, WITH_OWN_NVS, Board, table
from tests.web.conftest import go, log_in

APP, NVS, OTA_DATA = 0x1_0000, 0x9000, 0xD000
FLASHING_MS = 60_000


def facts(image: bytes | bytearray) -> dict[str, object]:
    return dict(nvs_reader.read(bytes(image))["mdm"])


async def with_image(fleet: Fleet) -> Package:
    """Add a device whose model has an image of 1024 bytes."""
    model = await fleet.model()
    await upload(fleet, model, build(model, "1.0.0"))
    return await fleet.device(model)


async def set_up(page: Page, device: str) -> None:
    await go(page, f"device/{device}/setup")
    await expect(page.get_by_label("Image", exact=True)).to_be_visible()


async def flash(page: Page) -> None:
    await page.get_by_role("button", name="Select port and flash").click()


async def refused_without_a_secret(fleet: Fleet, package: Package) -> None:
    """Nobody has taken the device's secret since `fleet.device` did."""
    entries = (await fleet.ask(admin.AUDIT_LIST, subject=package.client_id)).entries
    assert [entry.action for entry in entries] == ["device.provision", "device.add"]


async def download(page: Page, button: str) -> tuple[str, bytes]:
    async with page.expect_download() as saving:
        await page.get_by_role("button", name=button).click()
    saved = await saving.value
    return saved.suggested_filename, await asyncio.to_thread((await saved.path()).read_bytes)


async def test_a_blank_board_gets_its_whole_flash_from_a_file_and_its_secret(page: Page, fleet: Fleet) -> None:
    package = await fleet.device()
    image = build("blank", "1.0.0")
    rows = table(TWO_SLOTS)
    merged = bytearray(b"\xff" * (APP + len(image)))
    merged[0x1000:0x1010] = b"\xe9 a bootloader "
    merged[TABLE_OFFSET : TABLE_OFFSET + len(rows)] = rows
    merged[APP:] = image
    board = Board(rows=())
    await board.plug_into(page)
    await set_up(page, package.client_id)
    await page.get_by_label("Image", exact=True).select_option("The whole flash of a blank board, from a file")
    file = page.get_by_label("File", exact=True)
    await file.set_input_files({"name": "app.bin", "mimeType": "x/y", "buffer": image})
    await flash(page)
    await expect(page.get_by_role("alert")).to_contain_text("The file is no merged flash image")
    await file.set_input_files({"name": "all.bin", "mimeType": "x/y", "buffer": bytes(merged)})
    await flash(page)
    await expect(page.get_by_text("was flashed and verified")).to_be_visible(timeout=FLASHING_MS)
    assert board.flash[:NVS] == merged[:NVS]
    assert board.flash[APP : APP + len(image)] == image
    assert facts(board.flash[NVS : NVS + 0x4000])["client_id"] == package.client_id
    await asyncio.wait_for(board.runs.wait(), FLASHING_MS / 1000)


async def test_a_board_is_flashed_with_the_models_image_and_the_devices_secret(page: Page, fleet: Fleet) -> None:
    model = await fleet.model()
    image = image_builder.build(version="1.0.0", project=model, payload=300_000)
    await upload(fleet, model, image)
    await upload(fleet, model, build(model, "2.0.0"), release=False)
    package = await fleet.device(model)
    board = Board()
    before = board.flash[:]
    await board.plug_into(page)
    await set_up(page, package.client_id)
    await expect(page.get_by_label("Image", exact=True).locator("option:checked")).to_have_text("1.0.0 (current)")
    await page.get_by_label("Wi-Fi name").fill("home")
    await page.get_by_label("Wi-Fi password").fill("correct horse")
    await flash(page)
    await expect(page.get_by_text("The ESP32 was flashed and verified")).to_be_visible(timeout=FLASHING_MS)
    assert board.flash[APP : APP + len(image)] == image
    found = facts(board.flash[NVS : NVS + 0x6000])
    assert (found["client_id"], found["secret"]) == (package.client_id, package.secret)
    assert (found["wifi_ssid"], found["wifi_pass"]) == ("home", "correct horse")
    assert board.writes == [(APP, len(image)), (NVS, 0x6000)]
    assert (board.flash[:NVS], board.flash[NVS + 0x6000 : APP]) == (before[:NVS], before[NVS + 0x6000 : APP])
    assert board.bauds == [115_200, 460_800]
    await expect(page.get_by_label("Serial console")).to_have_value(re.compile("2nd stage bootloader"))


async def test_a_chip_that_chose_an_updated_image_starts_the_flashed_one(page: Page, fleet: Fleet) -> None:
    package = await with_image(fleet)
    board = Board("esp32", TWO_SLOTS)
    board.flash[OTA_DATA : OTA_DATA + 32] = b"\x02" * 32
    await board.plug_into(page)
    await set_up(page, package.client_id)
    await flash(page)
    alert = page.get_by_role("alert")
    await expect(alert).to_contain_text(
        "no NVS at 0x9000 with 0x6000 bytes, but nvs at 0x9000 (0x4000 bytes)", timeout=FLASHING_MS
    )
    assert board.writes == []
    await refused_without_a_secret(fleet, package)
    await page.get_by_label("NVS size").fill("0x4000")
    await page.get_by_label("Speed").select_option("115200")
    await flash(page)
    await expect(page.get_by_text("was flashed and verified")).to_be_visible(timeout=FLASHING_MS)
    assert board.writes == [(APP, 1024), (OTA_DATA, 0x2000), (NVS, 0x4000)]
    assert board.flash[OTA_DATA : OTA_DATA + 0x2000] == b"\xff" * 0x2000
    assert facts(board.flash[NVS : NVS + 0x4000])["secret"] == package.secret


async def test_the_partition_of_the_libraries_is_found_by_its_name(page: Page, fleet: Fleet) -> None:
    package = await with_image(fleet)
    board = Board("esp32", WITH_OWN_NVS)
    before = bytes(board.flash[NVS : NVS + 0x4000])
    await board.plug_into(page)
    await set_up(page, package.client_id)
    await flash(page)
    await expect(page.get_by_text("was flashed and verified")).to_be_visible(timeout=FLASHING_MS)
    assert board.writes == [(APP, 1024), (OTA_DATA, 0x2000), (0x3B_0000, 0x2_0000)]
    assert facts(board.flash[0x3B_0000:0x3D_0000])["secret"] == package.secret
    assert bytes(board.flash[NVS : NVS + 0x4000]) == before


async def test_another_chip_is_refused_and_nothing_is_written(page: Page, fleet: Fleet) -> None:
    package = await with_image(fleet)
    board = Board("esp32c3")
    before = board.flash[:]
    await board.plug_into(page)
    await set_up(page, package.client_id)
    await flash(page)
    await expect(page.get_by_role("alert")).to_have_text(
        "This chip is an ESP32-C3, but the image is for esp32. Nothing was written.", timeout=FLASHING_MS
    )
    assert (board.flash, board.writes) == (before, [])
    assert board.runs.is_set()
    await refused_without_a_secret(fleet, package)


async def test_an_image_for_another_chip_than_the_first_is_flashed_too(page: Page, fleet: Fleet) -> None:
    model = await fleet.model(chip="esp32c3")
    image = image_builder.build(version="1.0.0", project=model, chip="esp32c3", size_bytes=2048)
    await upload(fleet, model, image)
    package = await fleet.device(model)
    board = Board("esp32c3")
    await board.plug_into(page)
    await set_up(page, package.client_id)
    await page.get_by_label("Provisioning").select_option("")
    await flash(page)
    await expect(page.get_by_text("The ESP32-C3 was flashed and verified")).to_be_visible(timeout=FLASHING_MS)
    assert board.flash[APP : APP + len(image)] == image
    assert board.writes == [(APP, len(image))]


@pytest.mark.parametrize(
    ("board", "reason"),
    [
        (Board(rows=()), "The chip has no partition table at 0x8000"),
        (
            Board(rows=(("app", 0, 0x00, 0x2_0000, 0x10_0000),)),
            "The chip starts the app at 0x20000, not at 0x10000",
        ),
        (Board(rows=(("app", 0, 0x00, 0x1_0000, 512),)), "the chip's app partition app only has 512"),
        (Board(damage_at=APP + 100), "The data in flash is not the data that was sent"),
        (Board(is_free=False), "The port cannot be opened. Another program"),
        (Board(answers=False), "The chip does not respond. Check the cable"),
    ],
    ids=["no table", "app elsewhere", "app too small", "worn flash", "port taken", "silent chip"],
)
async def test_an_obstacle_is_explained(page: Page, fleet: Fleet, board: Board, reason: str) -> None:
    package = await with_image(fleet)
    await board.plug_into(page)
    await set_up(page, package.client_id)
    await flash(page)
    await expect(page.get_by_role("alert")).to_contain_text(reason, timeout=FLASHING_MS)
    assert len(board.writes) == (1 if board.damage_at else 0)
    assert board.runs.is_set() == board.is_free
    # The port is left, so that the next try is not refused for that.
    await expect(page.get_by_role("button", name="Select port and flash")).to_be_enabled()
    await page.get_by_role("button", name="Restart and open console").click()
    if board.is_free:
        await expect(page.get_by_label("Serial console")).to_have_value(re.compile("2nd stage bootloader"))
        await page.get_by_role("button", name="Close port").click()
        await expect(page.get_by_role("button", name="Close port")).to_have_count(0)


async def test_who_leaves_the_page_meanwhile_has_a_board_that_is_flashed_and_runs(
    page: Page, fleet: Fleet
) -> None:
    model = await fleet.model()
    image = image_builder.build(version="1.0.0", project=model, payload=600_000)
    await upload(fleet, model, image)
    package = await fleet.device(model)
    board = Board()
    await board.plug_into(page)
    await set_up(page, package.client_id)
    await flash(page)
    await expect(page.get_by_text("Writing…")).to_be_visible(timeout=FLASHING_MS)
    await go(page, "devices")
    await set_up(page, package.client_id)
    await flash(page)
    await expect(page.get_by_role("alert")).to_contain_text("still in use by this page")
    async with asyncio.timeout(FLASHING_MS / 1000):
        await board.runs.wait()
    await page.wait_for_function("async () => (await navigator.serial.requestPort()).readable === null")
    assert board.flash[APP : APP + len(image)] == image
    assert facts(board.flash[NVS : NVS + 0x6000])["secret"] == package.secret
    await page.get_by_role("button", name="Restart and open console").click()
    await expect(page.get_by_label("Serial console")).to_have_value(re.compile("2nd stage bootloader"))


async def test_without_a_port_chosen_nothing_happens(page: Page, fleet: Fleet) -> None:
    package = await with_image(fleet)
    await page.evaluate("""() => {
      const requestPort = () => Promise.reject(new DOMException("No port selected by the user.", "NotFoundError"));
      Object.defineProperty(navigator, "serial", { configurable: true, value: { requestPort } });
    }""")
    await set_up(page, package.client_id)
    await flash(page)
    await expect(page.get_by_role("alert")).to_have_text("No port was selected.")


async def test_without_web_serial_there_are_the_files_and_the_command(page: Page, fleet: Fleet) -> None:
    model = await fleet.model()
    image = image_builder.build(version="1.0 beta", project=model, payload=300_000)
    await upload(fleet, model, image)
    package = await fleet.device(model)
    await page.evaluate("() => { delete Navigator.prototype.serial; }")
    await set_up(page, package.client_id)
    await expect(page.get_by_text("This browser cannot flash, as it does not support Web Serial")).to_be_visible()
    await expect(page.get_by_role("button", name="Select port and flash")).to_have_count(0)
    names = f"0x10000 {model}-1.0-beta.bin 0xa000 {package.client_id}-nvs.bin"
    await page.get_by_label("NVS address").fill("40960")
    await expect(page.get_by_text(f"esptool --chip esp32 --baud 460800 write-flash {names}")).to_be_visible()
    assert await download(page, "Download image") == (f"{model}-1.0-beta.bin", image)
    await page.get_by_label("Wi-Fi name").fill("home")
    await page.get_by_label("Wi-Fi password").fill("short")
    await page.get_by_role("button", name="Download NVS image").click()
    await expect(page.get_by_role("alert")).to_contain_text("wifi_password: must be empty, 8 to 63")
    await page.get_by_label("Wi-Fi password").fill("correct horse")
    name, nvs = await download(page, "Download NVS image")
    assert (name, len(nvs)) == (f"{package.client_id}-nvs.bin", 0x6000)
    found = facts(nvs)
    assert (found["secret"], found["wifi_ssid"], found["wifi_pass"]) == (package.secret, "home", "correct horse")
    size = page.get_by_label("NVS size")
    await size.fill("0x6001")
    await expect(size).to_have_attribute("aria-invalid", "true")
    await expect(page.get_by_role("button", name="Download NVS image")).to_be_disabled()


async def test_the_files_are_there_with_web_serial_too(page: Page, fleet: Fleet) -> None:
    package = await with_image(fleet)
    await set_up(page, package.client_id)
    await page.get_by_text("Flash with esptool instead").click()
    _, nvs = await download(page, "Download NVS image")
    assert facts(nvs)["secret"] == package.secret


async def test_a_secret_is_renewed_after_a_question(page: Page, fleet: Fleet) -> None:
    package = await with_image(fleet)
    await set_up(page, package.client_id)
    await page.get_by_role("button", name="Renew secret").click()
    dialog = page.get_by_role("dialog", name="Renew the secret?")
    await expect(dialog).to_contain_text("is locked out until it is flashed")
    await page.keyboard.press("Escape")
    assert (await fleet.show(package)).secret_generation == 1
    await page.get_by_role("button", name="Renew secret").click()
    await dialog.get_by_role("button", name="Renew and lock out the machine").click()
    await expect(dialog.get_by_text("Secret 2 is now valid")).to_be_visible()
    await dialog.get_by_role("button", name="Done").click()
    await page.get_by_text("Flash with esptool instead").click()
    _, nvs = await download(page, "Download NVS image")
    found = facts(nvs)
    assert found["secret_gen"] == 2
    assert not await credentials.keycloak_accepts(package)
    assert await credentials.keycloak_accepts(package, str(found["secret"]))


async def test_an_operator_gets_the_image_and_no_secret(opened: Page, fleet: Fleet, system: System) -> None:
    package = await with_image(fleet)
    operator = await new_account(fleet, system, Role.OPERATOR)
    await log_in(opened, operator.password.get_secret_value(), operator.account)
    await expect(opened.get_by_role("heading", name="Overview")).to_be_visible()
    await set_up(opened, package.client_id)
    await opened.get_by_text("Flash with esptool instead").click()
    _, image = await download(opened, "Download image")
    assert len(image) == 1024
    nvs = opened.get_by_role("button", name="Download NVS image")
    await expect(nvs).to_be_disabled()
    await expect(nvs).to_have_attribute("title", "This needs the role admin; your account is operator.")


async def test_a_device_that_has_been_seen_is_not_made_twice_unawares(page: Page, fleet: Fleet) -> None:
    package = await with_image(fleet)
    await set_up(page, package.client_id)
    warning = page.get_by_text("A machine already runs as this device")
    await expect(warning).to_have_count(0)
    async with fleet.powered(package):
        await expect(warning).to_be_visible()
