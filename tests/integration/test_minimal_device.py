"""A device written from docs/write-a-device.md alone, on the real services."""

from __future__ import annotations

import ast
import asyncio
import json
import secrets
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest

from dev.credentials import behind_our_back, broker_accepts, keycloak_accepts
from dev.fleet import Fleet
from dev.stack import Stack
from dev.waiting import PATIENCE_S
from shared.protocol import admin
from shared.protocol.admin import Package
from tests import minimal
from tests.faults.test_recovery import change_in_keycloak

PROGRAM = Path(minimal.__path__[0]) / "device.py"
ALLOWED = {"paho", "cryptography"}


@asynccontextmanager
async def powered(package: Package, folder: Path, *, qos: int = 1) -> AsyncIterator[asyncio.subprocess.Process]:
    """Run the device until the block ends; then its power is cut."""
    file = folder / f"{package.client_id}.package.json"
    file.write_text(package.model_dump_json())
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-I", PROGRAM, file, record_file(package, folder), str(qos)
    )
    try:
        yield process
    finally:
        if process.returncode is None:
            process.kill()
        await process.wait()


def record_file(package: Package, folder: Path) -> Path:
    return folder / f"{package.client_id}.record.json"


def record(package: Package, folder: Path) -> dict[str, Any]:
    return dict(json.loads(record_file(package, folder).read_text()))


async def settled(package: Package, folder: Path, generation: int) -> dict[str, Any]:
    """Wait until the first slot has this generation and the second is empty, and return the record."""
    async with asyncio.timeout(PATIENCE_S):
        while True:
            kept = await asyncio.to_thread(record, package, folder)
            if (kept["first"]["generation"], kept["second"]) == (generation, None):
                return kept


def test_it_knows_nothing_of_our_code() -> None:
    tree = ast.parse(PROGRAM.read_text())
    names = [alias.name for node in ast.walk(tree) if isinstance(node, ast.Import) for alias in node.names]
    names += [node.module or "." for node in ast.walk(tree) if isinstance(node, ast.ImportFrom)]
    assert {name.partition(".")[0] for name in names} - sys.stdlib_module_names == ALLOWED


async def test_it_is_configured(fleet: Fleet, tmp_path: Path) -> None:
    package = await fleet.device()
    await fleet.ask(admin.CONFIG_SET, device=package.client_id, overrides={"interval_s": 60})
    async with powered(package, tmp_path):
        view = await fleet.until(package, lambda view: view.config_outcome == "applied")
        assert (view.online, view.firmware_version, view.config_version_reported) == (True, "1.0.0", 2)
        await fleet.ask(admin.CONFIG_SET, device=package.client_id, overrides={"interval_s": 5})
        await fleet.until(package, lambda view: view.config_version_reported == 3)
    assert record(package, tmp_path)["config"] == {"version": 3, "document": {"interval_s": 5}}
    await fleet.until(package, lambda view: not view.online)


@pytest.mark.parametrize("qos", [1, 0])
async def test_it_goes_through_two_rotations(fleet: Fleet, tmp_path: Path, qos: int) -> None:
    """Whatever it publishes with: some libraries have QoS 0 only."""
    package = await fleet.device()
    async with powered(package, tmp_path, qos=qos):
        await fleet.until(package, lambda view: view.online)
        for generation in (2, 3):
            await fleet.ask(admin.ROTATION_START, device=package.client_id)
            await fleet.seen(package, "rotation/completed", generation=generation)
            kept = await settled(package, tmp_path, generation)
    assert await keycloak_accepts(package, kept["first"]["secret"])
    assert await broker_accepts(package, kept["first"]["secret"])
    assert not await keycloak_accepts(package)
    assert not await broker_accepts(package)


@pytest.mark.usefixtures("patient")
async def test_it_comes_back_with_the_new_secret_when_its_power_is_cut_in_the_middle(
    fleet: Fleet, tmp_path: Path
) -> None:
    package = await fleet.device()
    async with powered(package, tmp_path):
        await fleet.until(package, lambda view: view.online)
        await fleet.ask(admin.ROTATION_START, device=package.client_id)
        await fleet.seen(package, "rotation/stored")
    async with powered(package, tmp_path):
        await fleet.seen(package, "rotation/completed", generation=2)
        await settled(package, tmp_path, 2)


async def test_it_comes_back_with_the_old_secret_when_its_power_is_cut_for_too_long(
    fleet: Fleet, tmp_path: Path
) -> None:
    package = await fleet.device()
    async with powered(package, tmp_path):
        await fleet.until(package, lambda view: view.online)
        await fleet.ask(admin.ROTATION_START, device=package.client_id)
        await fleet.seen(package, "rotation/stored")
    await fleet.seen(package, "rotation/timed_out")
    assert record(package, tmp_path)["second"]["generation"] == 2
    async with powered(package, tmp_path):
        await fleet.until(package, lambda view: view.online)
        await fleet.ask(admin.ROTATION_START, device=package.client_id)
        await fleet.seen(package, "rotation/completed", generation=3)
        await settled(package, tmp_path, 3)


async def test_it_recovers_with_its_key_when_both_its_secrets_are_dead(
    fleet: Fleet, stack: Stack, tmp_path: Path
) -> None:
    package = await fleet.device()
    async with powered(package, tmp_path):
        await fleet.until(package, lambda view: view.online and view.has_key)
    await change_in_keycloak(stack, package, secrets.token_urlsafe(32))
    await behind_our_back(stack, "setClientPassword", package.client_id, password=secrets.token_urlsafe(32))
    assert not await broker_accepts(package)
    async with powered(package, tmp_path):
        recovered = await fleet.seen(package, "device/recovered")
        await settled(package, tmp_path, recovered.data["generation"])
        await fleet.ask(admin.ROTATION_START, device=package.client_id)
        await fleet.seen(package, "rotation/completed")
