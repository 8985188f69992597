"""`mdm` as a person and as a script runs it, on the real stack."""

from __future__ import annotations

import asyncio
import json
import os
import sys
from functools import partial
from pathlib import Path
from uuid import uuid4

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from dev.fleet import Fleet
from dev.servers.fork_server import Ran, run_forked
from dev.system import System
from device import image_builder
from shared.protocol.admin import Package
from tests.signing import private_pem, public_pem

MDM = str(Path(sys.executable).with_name("mdm"))


async def mdm(*arguments: object, **environment: str) -> Ran:
    """Run the tool as a process of its own, to its end."""
    words = [str(it) for it in arguments]
    run = partial(run_forked, "cli.main", *words, environment={**os.environ, **environment}, folder=Path.cwd())
    return await asyncio.to_thread(run)


@pytest.fixture
def environment(system: System, tmp_path: Path) -> dict[str, str]:
    profile = tmp_path / "profile.toml"
    system.profile.save(profile)
    return {"MDM_PROFILE": str(profile)}


async def test_a_device_from_its_model_to_its_package(environment: dict[str, str], tmp_path: Path) -> None:
    code = f"t{uuid4().hex[:10]}"
    assert (await mdm("model", "add", code, "--chip", "esp32c3", **environment)).status == 0
    added = await mdm("--json", "device", "add", "--model", code, "--name", "hall", "--tag", "up", **environment)
    assert added.status == 0, added.errors
    client_id = json.loads(added.output)["client_id"]
    listed = await mdm("device", "list", **environment)
    assert [line for line in listed.output.splitlines() if client_id in line and "hall" in line]
    target = tmp_path / "package.json"
    assert (await mdm("device", "provision", client_id, "--output", target, **environment)).status == 0
    assert target.stat().st_mode & 0o777 == 0o600
    package = Package.model_validate_json(target.read_bytes())
    again = await mdm("device", "provision", client_id, "--output", target, **environment)
    assert (again.status, again.output) == (1, "")
    changed = await mdm("device", "config", "set", client_id, "led.on=true", **environment)
    assert "2 (new)" in changed.output
    assert package.secret not in added.output + listed.output + again.errors + changed.output


async def test_an_error_is_one_line_and_a_status(environment: dict[str, str]) -> None:
    ran = await mdm("device", "show", "zzzzzzzz", **environment)
    assert (ran.status, ran.output) == (1, "")
    assert ran.errors.startswith("error: there is no device zzzzzzzz")
    assert len(ran.errors.splitlines()) == 1


async def test_a_wrong_password_is_an_error_of_its_own_status(environment: dict[str, str]) -> None:
    ran = await mdm("device", "list", **environment, MDM_PASSWORD="wrong")
    assert ran.status == 3
    assert ran.errors.startswith("error: the broker at ")
    assert "refuses the account admin or its password" in ran.errors


async def test_events_are_printed_as_they_happen(fleet: Fleet, environment: dict[str, str]) -> None:
    process = await asyncio.create_subprocess_exec(
        *(MDM, "--json", "events", "--noun", "model", "--count", "1"),
        stdout=asyncio.subprocess.PIPE,
        env={**os.environ, **environment},
    )
    assert process.stdout is not None
    reading = asyncio.ensure_future(process.stdout.readline())
    added = []
    async with asyncio.timeout(30):
        while not reading.done():
            added.append(await fleet.model())
        assert await process.wait() == 0
    assert json.loads(reading.result())["data"]["code"] in added


async def test_a_command_is_waited_for_until_it_is_answered_unless_the_device_is_offline(
    fleet: Fleet, environment: dict[str, str]
) -> None:
    package = await fleet.device()
    words = ("command", "send", "identify", "--device", package.device_key)
    async with fleet.powered(package):
        await fleet.until(package, lambda view: view.online)
        done = await mdm(*words, **environment)
    await fleet.until(package, lambda view: not view.online)
    queued = await mdm(*words, "--expires", "1h", **environment)
    assert (done.status, done.output.split()[3:]) == (0, [package.client_id, "ok", "-"]), done.errors
    assert (queued.status, queued.output.split()[3:]) == (1, [package.client_id, "waiting", "-"]), queued.errors
    assert "the device is offline: the command stays queued" in queued.errors
    listed = json.loads((await mdm("command", "list", package.device_key[:7], "--json", **environment)).output)
    assert [it["outcome"] for it in listed["commands"]] == ["waiting", "ok"]


async def test_a_rotation_is_started_watched_looked_up_and_called_off(
    fleet: Fleet, environment: dict[str, str]
) -> None:
    package = await fleet.device()
    assert (await mdm("rotation", "cancel", "--all", **environment)).status == 0
    async with fleet.powered(package):
        await fleet.until(package, lambda view: view.online)
        started = await mdm("rotation", "start", package.device_key, **environment)
        watched = await mdm("rotation", "status", "--watch", "--json", **environment)
    assert (started.status, started.output.split()[2:]) == (0, [package.client_id, "queued"]), started.errors
    counts = json.loads(watched.output)["counts"]
    assert (counts["queued"], counts["pending"]) == (0, 0)
    assert watched.status == (1 if counts["timeout"] else 0)
    history = json.loads((await mdm("rotation", "history", package.device_key, "--json", **environment)).output)
    assert [(it["generation"], it["outcome"]) for it in history["rotations"]] == [(2, "DONE")]
    again = await mdm("rotation", "cancel", package.device_key, **environment)
    assert (again.status, again.errors) == (0, "nothing to cancel\n")
    assert (await mdm("rotation", "schedule", "show", **environment)).output.startswith("no schedule: ")


async def test_an_image_is_signed_uploaded_replaced_and_deleted(
    fleet: Fleet, environment: dict[str, str], tmp_path: Path
) -> None:
    model = await fleet.model()
    key = Ed25519PrivateKey.generate()
    pem, public = tmp_path / "key.pem", tmp_path / "public.pem"
    pem.write_bytes(private_pem(key))
    public.write_bytes(public_pem(key))
    assert (await mdm("firmware", "key", "add", model, public, **environment)).status == 0
    for version in ("1.1.0", "1.2.0"):
        file = tmp_path / f"{version}.bin"
        file.write_bytes(image_builder.build(version=version, project=model))
        unsigned = await mdm("firmware", "upload", file, "--model", model, **environment)
        assert (unsigned.status, unsigned.errors[:19]) == (1, "error: --signature:")
        assert (await mdm("firmware", "sign", file, "--key", pem)).status == 0
        signature = f"{file}.sig"
        signed = await mdm(
            *("firmware", "upload", file, "--model", model, "--signature", signature), **environment
        )
        assert signed.status == 0, signed.errors
    refused = await mdm("firmware", "delete", model, "1.2.0", **environment)
    assert (refused.status, refused.errors) == (
        1,
        f"error: VERSION: {model} 1.2.0 is in use: it is its model's image\n",
    )
    assert (await mdm("firmware", "release", model, "1.1.0", **environment)).status == 0
    assert (await mdm("firmware", "delete", model, "1.2.0", **environment)).output == "removed  1.2.0\n"
    listed = json.loads((await mdm("firmware", "list", "--model", model, "--json", **environment)).output)
    assert [(image["version"], image["current"]) for image in listed["images"]] == [("1.1.0", True)]
