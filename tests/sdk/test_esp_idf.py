"""The ports for ESP-IDF and Arduino with their examples, on a board of files, on the real services.

What it uses of ESP-IDF is as sdk/c/tests/esp_idf declares it; agree.py there compares this with ESP-IDF itself.
"""

from __future__ import annotations

import asyncio
import json
import os
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from dev.crash_injection import CrashPoint
from dev.fleet import Fleet
from dev.system import System
from dev.uploads import upload
from dev.waiting import PATIENCE_S, until
from device import image_builder
from shared.protocol import admin, nvs
from shared.protocol.admin import Package, Role
from tests import nvs_reader
from tests.claims import new_claim, new_uid
from tests.integration.test_accounts import bare, new_account
from tests.sdk.c_device import build, image_file
from tests.sdk.test_c_device import rotated

CHUNK = 16 * 1024
NETWORK = {"wifi_ssid": "hall", "wifi_password": "correct horse"}


def flash(folder: Path, image: bytes) -> None:
    """Write an image of the partition `mdm`."""
    folder.mkdir(exist_ok=True)
    for name, value in nvs_reader.read(image)["mdm"].items():
        (folder / name).write_bytes(value if isinstance(value, bytes) else f"{value}\0".encode())


@asynccontextmanager
async def board(
    program: str, folder: Path, *, die_at: int | CrashPoint | None = None, **environment: str
) -> AsyncIterator[asyncio.subprocess.Process]:
    """Power a board with the program of an example, until the block ends or its power is cut at a write."""
    if die_at is not None:
        cut = CrashPoint("*", die_at) if isinstance(die_at, int) else die_at
        environment["MDM_CUT_AT"] = f"{cut.step}#{cut.nth}"
    image = image_file(folder.parent, folder.name.split("-")[1] if "-" in folder.name else "claim")[1]
    command = await asyncio.to_thread(build, f"board-{program}")
    process = await asyncio.create_subprocess_exec(command, folder, image, env={**os.environ, **environment})
    try:
        yield process
    finally:
        if process.returncode is None:
            process.kill()
        await process.wait()


async def ended(process: asyncio.subprocess.Process) -> None:
    async with asyncio.timeout(PATIENCE_S):
        await process.wait()


async def thermometer(fleet: Fleet, folder: Path, model: str | None = None) -> tuple[Package, Path]:
    """Return a new device and its flashed board."""
    package = await fleet.device(model or await fleet.model(commands=["measure", "identify"]))
    place = folder / package.client_id
    image = await fleet.ask(admin.DEVICE_NVS, device=package.client_id, size_bytes=0x20000, **NETWORK)
    flash(place, image.data)
    return package, place


async def lines(fleet: Fleet, package: Package) -> list[tuple[str | None, str]]:
    found = await fleet.ask(admin.LOG_LIST, device=package.client_id, limit=500)
    return [(line.tag, line.message) for line in found.lines]


@pytest.mark.parametrize("program", ["thermometer", "arduino"])
async def test_the_thermometer_is_configured_measures_and_rotates(
    fleet: Fleet, system: System, tmp_path: Path, program: str
) -> None:
    package, place = await thermometer(fleet, tmp_path)
    account = await new_account(fleet, system, Role.APP)
    topic = f"app/{package.client_id}/up/temperature"
    async with bare(account) as consumer, board(program, place):
        await consumer.subscribe(topic, qos=1)
        view = await fleet.until(package, lambda view: view.config_outcome == "applied")
        assert (view.online, view.firmware_version, view.flaws) == (True, "1.0.0", [])
        await fleet.ask(admin.CONFIG_SET, device=package.client_id, overrides={"interval_s": 0})
        await fleet.until(package, lambda view: view.config_outcome == "rejected")
        await fleet.ask(admin.CONFIG_SET, device=package.client_id, overrides={"interval_s": 1})
        await fleet.until(
            package, lambda view: (view.config_version_reported, view.config_outcome) == (3, "applied")
        )
        async with asyncio.timeout(PATIENCE_S):
            reading = await anext(aiter(consumer.messages))
        assert json.loads(bytes(reading.payload)) == {"celsius": 21.5}
        vitals = await until(
            lambda: fleet.ask(admin.VITALS_SHOW, device=package.client_id), lambda found: found.vitals
        )
        assert [(it.name, it.last) for it in vitals.vitals] == [("temperature_celsius", 21.5)]
        await fleet.ask(admin.COMMAND_SEND, device=package.client_id, name="measure")
        assert (await fleet.seen(package, "command/answered")).data["ok"]
        await rotated(fleet, package)


async def test_a_board_sleeps_and_wakes(fleet: Fleet, tmp_path: Path) -> None:
    package, place = await thermometer(fleet, tmp_path)
    async with board("sleeper", place):
        first = await fleet.until(package, lambda view: view.presence == "asleep")
        again = await fleet.until(
            package, lambda view: view.presence == "asleep" and view.last_seen_at != first.last_seen_at
        )
        assert (again.wake_interval_s, again.flaws) == (1, [])


async def test_a_board_keeps_its_identity_whenever_its_power_is_cut(fleet: Fleet, tmp_path: Path) -> None:
    async def cut(at: int) -> None:
        package, place = await thermometer(fleet, tmp_path)
        async with board("thermometer", place, die_at=at) as process:
            rotating = asyncio.create_task(rotated(fleet, package))
            await ended(process)
            rotating.cancel()
        async with board("thermometer", place):
            await rotated(fleet, package)

    async with asyncio.TaskGroup() as group:
        for at in range(5, 35, 5):  # after the bootloader's own record
            group.create_task(cut(at))


async def test_a_board_resumes_an_update_tests_the_image_and_keeps_it(fleet: Fleet, tmp_path: Path) -> None:
    model = await fleet.model()
    package, place = await thermometer(fleet, tmp_path, model)
    image = image_builder.build(version="1.1.0", project=model, size_bytes=20 * CHUNK + 16)
    async with board("thermometer", place):
        await fleet.until(package, lambda view: view.firmware_version == "1.0.0")
    await upload(fleet, model, image)
    async with board("thermometer", place, die_at=40) as process:
        await ended(process)
    async with board("thermometer", place):
        await fleet.seen(package, "firmware/reported", stage="confirmed")
        await fleet.until(package, lambda view: view.firmware_version == "1.1.0")
    assert (place / "ota_1.bin").read_bytes()[: len(image)] == image
    assert (place / "boot").read_bytes() == bytes([1, 0, 0])


async def test_an_image_that_restarts_in_its_trial_is_rolled_back(fleet: Fleet, tmp_path: Path) -> None:
    model = await fleet.model()
    package, place = await thermometer(fleet, tmp_path, model)
    await upload(fleet, model, image_builder.build(version="1.1.0", project=model, size_bytes=CHUNK))
    # The first start, the change to the new image, and its first start.
    async with board("thermometer", place, die_at=CrashPoint("boot:after", 3)) as process:
        await ended(process)
    assert (place / "boot").read_bytes()[1:] == bytes([1, 1])
    async with board("thermometer", place):
        await fleet.seen(package, "firmware/reported", stage="rolled_back")
        await fleet.until(package, lambda view: view.online and view.firmware_version == "1.0.0")


async def test_a_core_dump_is_sent_with_the_whole_digest_of_its_image(fleet: Fleet, tmp_path: Path) -> None:
    package, place = await thermometer(fleet, tmp_path)
    image = image_builder.build(version="1.0.0", project=package.client_id.split("-")[1])
    digest = image[176:208].hex()  # esp_app_desc_t, app_elf_sha256
    (place / "coredump.bin").write_bytes(digest[:9].encode() + os.urandom(10_000))
    async with board("thermometer", place):
        await fleet.seen(package, "coredump/stored")
        await until(lambda: asyncio.to_thread(lambda: not (place / "coredump.bin").exists()))
    (dump,) = (await fleet.ask(admin.COREDUMP_LIST, device=package.client_id)).dumps
    assert (dump.elf_sha256, dump.reason, dump.size_bytes) == (digest, "assert failed", 10_009)


async def test_a_machine_claims_its_identity_joins_the_second_network_and_sends_its_warnings(
    fleet: Fleet, tmp_path: Path
) -> None:
    claim, uid = await new_claim(fleet), new_uid()
    place = tmp_path / uid
    flash(place, nvs.image(nvs.claim_rows(claim, nvs.network("cellar")), size_bytes=0x20000))
    (place / "wifi_ssid2").write_text("hall\0")
    (place / "wifi_pass2").write_text("correct horse\0")
    async with board("claim", place, MDM_UID=uid):
        await until(lambda: asyncio.to_thread((place / "package.t").exists))
        package = Package.model_validate_json((place / "package.0").read_bytes())
        await rotated(fleet, package)
        warning = ("mdm", "the network cellar cannot be joined")
        await until(lambda: lines(fleet, package), lambda found: warning in found)
