"""The device in C, built with sanitizers, on the real services."""

from __future__ import annotations

import asyncio
import json
import os
import secrets
from pathlib import Path
from typing import Any

import pytest

from dev.credentials import behind_our_back, broker_accepts, keycloak_accepts
from dev.fleet import Fleet
from dev.stack import Stack
from dev.uploads import upload
from dev.waiting import PATIENCE_S, until
from device import image_builder
from shared.protocol import admin
from shared.protocol.admin import Package
from tests.claims import new_claim, new_uid
from tests.faults.test_recovery import change_in_keycloak
from tests.sdk.c_device import image_file, powered, switched_on

CUTS = range(1, 28)
"""The changes of flash from the first start to the end of a rotation.

Three to a record: before it, when the new file is written, and after it.
"""
BOOTS_MAX = 3
CHUNK = 16 * 1024


def applied(package: Package, folder: Path) -> dict[str, Any]:
    """Return the configuration that the device has applied."""
    return dict(json.loads((folder / package.client_id / "config.json").read_text()))


async def died(process: asyncio.subprocess.Process) -> None:
    async with asyncio.timeout(PATIENCE_S):
        await process.wait()


async def rotated(fleet: Fleet, package: Package) -> None:
    """Rotate the device's secret until the services and the device have a new one."""
    before = await fleet.until(package, lambda view: view.online and view.rotation_state == "OK")
    await fleet.ask(admin.ROTATION_START, device=package.client_id)
    await fleet.until(package, lambda view: view.secret_generation > before.secret_generation and view.online)


async def test_it_is_configured(fleet: Fleet, tmp_path: Path) -> None:
    package = await fleet.device()
    await fleet.ask(admin.CONFIG_SET, device=package.client_id, overrides={"interval_s": 60})
    async with powered(package, tmp_path):
        view = await fleet.until(package, lambda view: view.config_outcome == "applied")
        assert (view.online, view.firmware_version, view.config_version_reported) == (True, "1.0.0", 2)
        await fleet.ask(admin.CONFIG_SET, device=package.client_id, overrides={"interval_s": 5})
        await fleet.until(package, lambda view: view.config_version_reported == 3)
        assert applied(package, tmp_path) == {"interval_s": 5}
    await fleet.until(package, lambda view: not view.online)


async def test_it_proves_a_configuration_on_trial_by_a_new_connection(fleet: Fleet, tmp_path: Path) -> None:
    package = await fleet.device()
    async with powered(package, tmp_path):
        await fleet.until(package, lambda view: view.config_outcome == "applied")
        await fleet.ask(admin.CONFIG_SET, device=package.client_id, overrides={"interval_s": 5}, trial_seconds=60)
        await fleet.until(
            package, lambda view: (view.config_version_reported, view.config_outcome) == (2, "applied")
        )
    async with powered(package, tmp_path):
        await fleet.until(package, lambda view: view.online and view.config_version_reported == 2)
    assert applied(package, tmp_path) == {"interval_s": 5}


async def test_it_reverts_a_configuration_when_it_restarts_in_its_trial(fleet: Fleet, tmp_path: Path) -> None:
    """The ninth change of the flash is the end of the record that puts the document on trial."""
    package = await fleet.device()
    async with powered(package, tmp_path):
        await fleet.until(package, lambda view: view.config_outcome == "applied")
    await fleet.ask(admin.CONFIG_SET, device=package.client_id, overrides={"interval_s": 5}, trial_seconds=60)
    async with powered(package, tmp_path, die_at=3 + 6) as process:
        await died(process)
    async with powered(package, tmp_path):
        await fleet.seen(package, "config/restored")
    assert applied(package, tmp_path) == {}


async def test_it_goes_through_two_rotations(fleet: Fleet, tmp_path: Path) -> None:
    package = await fleet.device()
    async with powered(package, tmp_path):
        await fleet.until(package, lambda view: view.online and view.has_key)
        for generation in (2, 3):
            await fleet.ask(admin.ROTATION_START, device=package.client_id)
            await fleet.seen(package, "rotation/completed", generation=generation)
    assert not await keycloak_accepts(package)
    assert not await broker_accepts(package)
    async with powered(package, tmp_path):
        await fleet.until(package, lambda view: view.online)


async def test_it_comes_back_from_a_power_cut_at_each_change_of_its_flash(fleet: Fleet, tmp_path: Path) -> None:
    async def cut(at: int) -> None:
        package = await fleet.device()
        async with powered(package, tmp_path, die_at=at) as process:
            rotating = asyncio.create_task(rotated(fleet, package))
            await died(process)
            rotating.cancel()
        async with powered(package, tmp_path):
            await rotated(fleet, package)

    async with asyncio.TaskGroup() as group:
        for at in CUTS:
            group.create_task(cut(at))


async def test_it_recovers_with_its_key_when_its_secret_is_dead(
    fleet: Fleet, stack: Stack, tmp_path: Path
) -> None:
    package = await fleet.device()
    async with powered(package, tmp_path):
        await fleet.until(package, lambda view: view.online and view.has_key)
    await change_in_keycloak(stack, package, secrets.token_urlsafe(32))
    await behind_our_back(stack, "setClientPassword", package.client_id, password=secrets.token_urlsafe(32))
    async with powered(package, tmp_path):
        await fleet.seen(package, "device/recovered")
        await rotated(fleet, package)


@pytest.mark.parametrize("at", [None, 1, 2, 3, 4, 5, 6])
async def test_it_claims_its_identity_once_whatever_is_cut_off(
    fleet: Fleet, tmp_path: Path, at: int | None
) -> None:
    claim, uid = await new_claim(fleet), new_uid()
    if at is not None:
        async with switched_on(claim, uid, tmp_path, die_at=at) as process:
            await died(process)
    async with switched_on(claim, uid, tmp_path):
        stored = tmp_path / uid / "package"
        await until(lambda: asyncio.to_thread(stored.exists))
        package = Package.model_validate_json(stored.read_bytes())
        await rotated(fleet, package)
    requests = (await fleet.ask(admin.CLAIM_LIST, all=True)).claims
    assert next(it.used for it in requests if it.claim == claim.account) == 1


async def test_it_takes_an_image_runs_it_and_confirms_it(fleet: Fleet, tmp_path: Path) -> None:
    model = await fleet.model()
    package = await fleet.device(model)
    async with powered(package, tmp_path, options=image_file(tmp_path, model)):
        await fleet.until(package, lambda view: view.firmware_version == "1.0.0")
        image = image_builder.build(version="1.1.0", project=model, size_bytes=20 * CHUNK + 16)
        await upload(fleet, model, image)
        await fleet.seen(package, "firmware/reported", stage="confirmed")
        await fleet.until(package, lambda view: view.firmware_version == "1.1.0")
    assert (tmp_path / package.client_id / "ota_1.bin").read_bytes() == image


async def test_it_comes_back_from_a_power_cut_at_each_change_of_its_flash_in_an_update(
    fleet: Fleet, tmp_path: Path
) -> None:
    """From the first start to the report; the image is small, so that a few dozen changes are all."""
    model = await fleet.model()
    await upload(fleet, model, image_builder.build(version="1.1.0", project=model, size_bytes=8 * CHUNK))
    packages = [await fleet.device(model) for _ in range(1, 60, 3)]

    async def cut(package: Package, at: int) -> None:
        async with powered(package, tmp_path, die_at=at, options=image_file(tmp_path, model)) as process:
            whole = asyncio.create_task(fleet.seen(package, "firmware/reported", stage="confirmed"))
            await asyncio.wait([whole, asyncio.create_task(process.wait())], return_when=asyncio.FIRST_COMPLETED)
            whole.cancel()
        async with powered(package, tmp_path, options=image_file(tmp_path, model)):
            await fleet.until(package, lambda view: view.online and view.firmware_version == "1.1.0")

    async with asyncio.TaskGroup() as group:
        for number, package in enumerate(packages):
            group.create_task(cut(package, 1 + 3 * number))


async def test_it_rolls_an_image_back_that_never_gets_an_answer(fleet: Fleet, tmp_path: Path) -> None:
    model = await fleet.model()
    package = await fleet.device(model)
    options = image_file(tmp_path, model)
    async with powered(package, tmp_path, options=options):
        await fleet.until(package, lambda view: view.online)
    await upload(fleet, model, image_builder.build(version="1.1.0", project=model, size_bytes=CHUNK))
    boot = tmp_path / package.client_id / "boot"
    async with powered(package, tmp_path, options=options):
        await until(lambda: asyncio.to_thread(lambda: boot.read_bytes()[1] == 1))
    for _ in range(BOOTS_MAX):
        async with powered(package, tmp_path, die_at=4, options=options) as process:
            await died(process)
    async with powered(package, tmp_path, options=options):
        await fleet.seen(package, "firmware/reported", stage="rolled_back")
        await fleet.until(package, lambda view: view.online and view.firmware_version == "1.0.0")


async def test_it_does_a_command_once_and_answers_it(fleet: Fleet, tmp_path: Path) -> None:
    model = await fleet.model(commands=["echo"])
    package = await fleet.device(model)
    async with powered(package, tmp_path):
        await fleet.until(package, lambda view: view.online)
        await fleet.ask(admin.COMMAND_SEND, device=package.client_id, name="echo", arguments={"text": "so\n"})
        answered = await fleet.seen(package, "command/answered")
        assert answered.data["ok"]
        await fleet.ask(admin.COMMAND_SEND, device=package.client_id, name="reboot")
        view = await fleet.until(package, lambda view: view.online)
        assert view.flaws == []


async def test_its_core_dump_is_stored_and_erased(fleet: Fleet, tmp_path: Path) -> None:
    package = await fleet.device()
    dump = tmp_path / package.client_id / "coredump.bin"
    dump.parent.mkdir()
    dump.write_bytes(bytes(32) + b"1.0.0".ljust(32, b"\0") + os.urandom(40_000))
    async with powered(package, tmp_path):
        stored = await fleet.seen(package, "coredump/stored")
        assert stored.data["size_bytes"] == 40_064
        await until(lambda: asyncio.to_thread(lambda: not dump.exists()))
