"""The device in C, built with sanitizers, on the real services."""

from __future__ import annotations

import asyncio
import json
import os
import secrets
from pathlib import Path
from typing import Any

import pytest

from dev.crash_injection import CrashPoint
from dev.credentials import behind_our_back, broker_accepts, keycloak_accepts
from dev.devices import c_device as powered
from dev.fleet import Fleet
from dev.stack import Stack
from dev.uploads import upload
from dev.waiting import until
from device import image_builder
from shared.protocol import admin
from shared.protocol.admin import Package
from tests.claims import new_claim, new_uid
from tests.faults.promise import ENDED
from tests.faults.test_recovery import change_in_keycloak
from tests.sdk.c_device import image_file

BOOTS_MAX = 3
CHUNK = 16 * 1024


def applied(package: Package, folder: Path) -> dict[str, Any]:
    """Return the configuration that the device has applied."""
    return dict(json.loads((folder / package.client_id / "config.json").read_text()))


async def rotated(fleet: Fleet, package: Package) -> None:
    """Rotate the device's secret until the services and the device have a new one; an attempt may time out."""
    before = await fleet.until(package, lambda view: view.online and view.rotation_state in ENDED)
    view = before
    while view.secret_generation == before.secret_generation:
        await fleet.ask(admin.ROTATION_START, device=package.client_id)
        view = await fleet.until(package, lambda view: view.rotation_state in ENDED)
    await fleet.until(package, lambda view: view.online)


async def test_it_is_configured(fleet: Fleet, tmp_path: Path) -> None:
    package = await fleet.device()
    await fleet.ask(admin.CONFIG_SET, device=package.client_id, overrides={"interval_s": 60})
    async with powered(package, tmp_path / package.client_id):
        view = await fleet.until(package, lambda view: view.config_outcome == "applied")
        assert (view.online, view.firmware_version, view.config_version_reported) == (True, "1.0.0", 2)
        await fleet.ask(admin.CONFIG_SET, device=package.client_id, overrides={"interval_s": 5})
        await fleet.until(package, lambda view: view.config_version_reported == 3)
        assert applied(package, tmp_path) == {"interval_s": 5}
    await fleet.until(package, lambda view: not view.online)


async def test_it_proves_a_configuration_on_trial_by_a_new_connection(fleet: Fleet, tmp_path: Path) -> None:
    package = await fleet.device()
    async with powered(package, tmp_path / package.client_id):
        await fleet.until(package, lambda view: view.config_outcome == "applied")
        await fleet.ask(admin.CONFIG_SET, device=package.client_id, overrides={"interval_s": 5}, trial_seconds=60)
        await fleet.until(
            package, lambda view: (view.config_version_reported, view.config_outcome) == (2, "applied")
        )
    async with powered(package, tmp_path / package.client_id):
        await fleet.until(package, lambda view: view.online and view.config_version_reported == 2)
    assert applied(package, tmp_path) == {"interval_s": 5}


async def test_it_reverts_a_configuration_when_it_restarts_in_its_trial(fleet: Fleet, tmp_path: Path) -> None:
    package = await fleet.device()
    async with powered(package, tmp_path / package.client_id):
        await fleet.until(package, lambda view: view.config_outcome == "applied")
    await fleet.ask(admin.CONFIG_SET, device=package.client_id, overrides={"interval_s": 5}, trial_seconds=60)
    async with powered(package, tmp_path / package.client_id, cut_at=CrashPoint("config:after", 1)) as board:
        await board.failed()
    async with powered(package, tmp_path / package.client_id):
        await fleet.seen(package, "config/restored")
    assert applied(package, tmp_path) == {}


async def test_it_goes_through_two_rotations(fleet: Fleet, tmp_path: Path) -> None:
    package = await fleet.device()
    async with powered(package, tmp_path / package.client_id):
        await fleet.until(package, lambda view: view.online and view.has_key)
        for generation in (2, 3):
            await fleet.ask(admin.ROTATION_START, device=package.client_id)
            await fleet.seen(package, "rotation/completed", generation=generation)
    assert not await keycloak_accepts(package)
    assert not await broker_accepts(package)
    async with powered(package, tmp_path / package.client_id):
        await fleet.until(package, lambda view: view.online)


async def test_it_recovers_with_its_key_when_its_secret_is_dead(
    fleet: Fleet, stack: Stack, tmp_path: Path
) -> None:
    package = await fleet.device()
    async with powered(package, tmp_path / package.client_id):
        await fleet.until(package, lambda view: view.online and view.has_key)
    await change_in_keycloak(stack, package, secrets.token_urlsafe(32))
    await behind_our_back(stack, "setClientPassword", package.client_id, password=secrets.token_urlsafe(32))
    async with powered(package, tmp_path / package.client_id):
        await fleet.seen(package, "device/recovered")
        await rotated(fleet, package)


@pytest.mark.parametrize(
    "at",
    [None, *(f"{name}:{moment}" for name in ("identity", "package") for moment in ("before", "written", "after"))],
)
async def test_it_claims_its_identity_once_whatever_is_cut_off(
    fleet: Fleet, tmp_path: Path, at: str | None
) -> None:
    claim, uid = await new_claim(fleet), new_uid()
    options = ("--uid", uid)
    if at is not None:
        async with powered(claim, tmp_path / uid, cut_at=CrashPoint(at, 1), options=options) as board:
            await board.failed()
    async with powered(claim, tmp_path / uid, options=options):
        stored = tmp_path / uid / "package"
        await until(lambda: asyncio.to_thread(stored.exists))
        package = Package.model_validate_json(stored.read_bytes())
        await rotated(fleet, package)
    requests = (await fleet.ask(admin.CLAIM_LIST, all=True)).claims
    assert next(it.used for it in requests if it.claim == claim.account) == 1


async def test_it_takes_an_image_runs_it_and_confirms_it(fleet: Fleet, tmp_path: Path) -> None:
    model = await fleet.model()
    package = await fleet.device(model)
    async with powered(package, tmp_path / package.client_id, options=image_file(tmp_path, model)):
        await fleet.until(package, lambda view: view.firmware_version == "1.0.0")
        image = image_builder.build(version="1.1.0", project=model, size_bytes=20 * CHUNK + 16)
        await upload(fleet, model, image)
        await fleet.seen(package, "firmware/reported", stage="confirmed")
        await fleet.until(package, lambda view: view.firmware_version == "1.1.0")
    assert (tmp_path / package.client_id / "ota_1.bin").read_bytes() == image


async def test_it_rolls_an_image_back_that_never_gets_an_answer(fleet: Fleet, tmp_path: Path) -> None:
    model = await fleet.model()
    package = await fleet.device(model)
    options = image_file(tmp_path, model)
    async with powered(package, tmp_path / package.client_id, options=options):
        await fleet.until(package, lambda view: view.online)
    await upload(fleet, model, image_builder.build(version="1.1.0", project=model, size_bytes=CHUNK))
    # The start, the change to the new image, and its first start.
    async with powered(
        package, tmp_path / package.client_id, cut_at=CrashPoint("boot:after", 3), options=options
    ) as board:
        await board.failed()
    assert (tmp_path / package.client_id / "boot").read_bytes()[1] == 1
    for _ in range(BOOTS_MAX):
        async with powered(
            package, tmp_path / package.client_id, cut_at=CrashPoint("config.json:before", 1), options=options
        ) as board:
            await board.failed()
    async with powered(package, tmp_path / package.client_id, options=options):
        await fleet.seen(package, "firmware/reported", stage="rolled_back")
        await fleet.until(package, lambda view: view.online and view.firmware_version == "1.0.0")


async def test_it_does_a_command_once_and_answers_it(fleet: Fleet, tmp_path: Path) -> None:
    model = await fleet.model(commands=["echo"])
    package = await fleet.device(model)
    async with powered(package, tmp_path / package.client_id):
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
    async with powered(package, tmp_path / package.client_id):
        stored = await fleet.seen(package, "coredump/stored")
        assert stored.data["size_bytes"] == 40_064
        await until(lambda: asyncio.to_thread(lambda: not dump.exists()))
