"""Models and devices from their making to their removal, on the real stack: nothing is left half done."""

from __future__ import annotations

import asyncio
import json
import os
import signal
from pathlib import Path

import pytest

from cli import batches
from cli.client import AnswerError
from dev import credentials
from dev.database import run
from dev.fleet import Fleet
from dev.stack import Stack
from dev.system import System
from dev.waiting import until
from shared.protocol import admin, messages, topics
from shared.protocol.admin import DeviceView
from tests.faults.promise import expire
from tests.integration.test_registry import traces
from tests.integration.test_tool import MDM, mdm
from tests.keycloak_proxy import Proxy
from tests.raw import RawDevice

IMPORTED = 60
"""Ten times as many as the tool sends at a time."""


async def listed(fleet: Fleet, **wanted: object) -> list[DeviceView]:
    return (await fleet.ask(admin.DEVICE_LIST, **wanted)).devices


async def count_of(system: System, model: str) -> int:
    """Return the number of a model's devices, quicker than the registry does."""
    count = "SELECT count(*) FROM mdm.devices JOIN mdm.device_models m ON m.id = model_id WHERE m.code = $1"
    return int((await run(system.stack, count, model))[0]["count"])


async def test_a_disabled_device_is_dropped_and_refused_until_it_is_enabled(fleet: Fleet) -> None:
    package = await fleet.device()
    async with fleet.powered(package):
        await fleet.until(package, lambda view: view.online)
        view = await fleet.ask(admin.DEVICE_UPDATE, device=package.client_id, enabled=False)
        assert not view.enabled
        await fleet.seen(package, "device/offline")
        assert not await credentials.keycloak_accepts(package)
        assert not await credentials.broker_accepts(package)
        await fleet.ask(admin.DEVICE_UPDATE, device=package.client_id, enabled=True)
        assert await credentials.keycloak_accepts(package)
        # The device itself has tried again and again, and is let in now.
        await fleet.until(package, lambda view: view.online)


async def test_a_removed_device_is_gone_everywhere(fleet: Fleet, stack: Stack, system: System) -> None:
    model = await fleet.model()
    package = await fleet.device(model)
    before = system.services["registry"].log_size
    async with RawDevice(package) as device:
        status = messages.Status(online=True)
        topic = topics.STATUS.of(client_id=package.client_id)
        await device.client.publish(topic, topics.STATUS.encode(status), qos=1, retain=True)
        await fleet.until(package, lambda view: view.online)
        await fleet.ask(admin.DEVICE_REMOVE, device=package.client_id)
    assert await traces(stack, model) == ([], [], [])
    assert not await credentials.broker_accepts(package)
    with pytest.raises(AnswerError, match="there is no device"):
        await fleet.show(package)
    async with credentials.account_client(stack.endpoints, "admin") as client:
        # A marker behind all that is retained: what is not there before it is not retained.
        await client.subscribe(topic, qos=1)
        await client.subscribe(topics.SERVICE_STATUS.filter, qos=1)
        async with asyncio.timeout(10):
            first = await anext(client.messages)
    assert topics.SERVICE_STATUS.match(str(first.topic))
    assert b"Traceback" not in system.services["registry"].log_since(before)


async def test_a_removal_that_keycloak_interrupts_is_finished_later(
    fleet: Fleet, stack: Stack, system: System, proxy: Proxy
) -> None:
    model = await fleet.model()
    package = await fleet.device(model)
    async with proxy.away():
        with pytest.raises(AnswerError, match="Keycloak does not answer"):
            await fleet.ask(admin.DEVICE_REMOVE, device=package.client_id)
        assert await listed(fleet, model=model) == []
        assert not await credentials.broker_accepts(package)
    await asyncio.to_thread(system.services["registry"].restart)
    await until(lambda: traces(stack, model), lambda found: found == ([], [], []), within_s=30)


async def test_a_reissued_package_works_and_the_lost_one_does_not(fleet: Fleet) -> None:
    lost = await fleet.device()
    package = await fleet.ask(admin.DEVICE_REISSUE, device=lost.client_id)
    assert package.secret_generation == 2
    assert not await credentials.keycloak_accepts(lost)
    assert not await credentials.broker_accepts(lost)
    assert await credentials.keycloak_accepts(package)
    async with fleet.powered(package):
        await fleet.until(package, lambda view: view.online)
        await fleet.ask(admin.ROTATION_START, device=package.client_id)
        await fleet.seen(package, "rotation/completed")
    assert (await fleet.show(package)).secret_generation == 3


@pytest.mark.usefixtures("patient")
async def test_a_device_in_a_rotation_is_neither_removed_nor_reissued_nor_handed_out(
    fleet: Fleet, stack: Stack
) -> None:
    package = await fleet.device()
    await fleet.offered(package)
    under_way = r"a rotation of .* is in progress"
    with pytest.raises(AnswerError, match=under_way):
        await fleet.ask(admin.DEVICE_REMOVE, device=package.client_id)
    with pytest.raises(AnswerError, match=under_way):
        await fleet.ask(admin.DEVICE_REISSUE, device=package.client_id)
    with pytest.raises(AnswerError, match=under_way):
        await fleet.ask(admin.DEVICE_PROVISION, device=package.client_id)
    await expire(stack, package)
    await fleet.seen(package, "rotation/timed_out")
    assert await credentials.broker_accepts(package)


async def test_devices_are_listed_by_what_is_asked_for_and_in_pages(fleet: Fleet) -> None:
    model = await fleet.model()
    packages = [await fleet.device(model) for _ in range(3)]
    await fleet.ask(admin.DEVICE_UPDATE, device=packages[1].client_id, tags=["attic", "north"], name="lamp")
    async with fleet.powered(packages[2]):
        await fleet.until(packages[2], lambda view: view.config_outcome == "applied")
        keys = {
            "tag": [view.key for view in await listed(fleet, model=model, tag="attic")],
            "online": [view.key for view in await listed(fleet, model=model, online=True)],
            "in step": [view.key for view in await listed(fleet, model=model, drift=False)],
            "drift": [view.key for view in await listed(fleet, model=model, drift=True)],
            "never seen": [view.key for view in await listed(fleet, model=model, health="never_seen")],
            "pending": [view.key for view in await listed(fleet, model=model, rotation_state="PENDING")],
        }
    first, second, third = (package.device_key for package in packages)
    assert keys == {
        "tag": [second],
        "online": [third],
        "in step": [third],
        "drift": [],
        "never seen": [first, second],
        "pending": [],
    }
    page = await fleet.ask(admin.DEVICE_LIST, model=model, limit=2)
    rest = await fleet.ask(admin.DEVICE_LIST, model=model, limit=2, after=page.next)
    assert [view.key for view in page.devices + rest.devices] == [first, second, third]
    assert rest.next is None


async def test_a_model_is_changed_and_removed_only_without_devices(fleet: Fleet) -> None:
    code = await fleet.model()
    changed = await fleet.ask(admin.MODEL_UPDATE, code=code, name="lamp", chip="esp32c3")
    assert (changed.name, changed.chip) == ("lamp", "esp32c3")
    package = await fleet.device(code)
    with pytest.raises(AnswerError, match="has 1 devices and 0 images"):
        await fleet.ask(admin.MODEL_REMOVE, code=code)
    await fleet.ask(admin.DEVICE_REMOVE, device=package.client_id)
    await fleet.ask(admin.MODEL_REMOVE, code=code)
    assert code not in [model.code for model in (await fleet.ask(admin.MODEL_LIST)).models]


async def test_each_change_is_in_the_audit_log_with_before_and_after(fleet: Fleet) -> None:
    package = await fleet.device()
    await fleet.ask(admin.DEVICE_UPDATE, device=package.client_id, name="lamp")
    await fleet.ask(admin.DEVICE_UPDATE, device=package.client_id, name="lamp")
    entries = (await fleet.ask(admin.AUDIT_LIST, subject=package.client_id)).entries
    assert [entry.action for entry in entries] == ["device.update", "device.provision", "device.add"]
    assert (entries[0].actor, entries[0].before, entries[0].after) == ("admin", {"name": ""}, {"name": "lamp"})


async def test_devices_are_imported_and_a_bad_line_costs_only_itself(
    fleet: Fleet, system: System, tmp_path: Path
) -> None:
    model = await fleet.model()
    lines = [f"lamp-{number},attic" for number in range(IMPORTED)]
    lines[24] = 'lamp-24,"not a/tag"'
    file = tmp_path / "devices.csv"
    file.write_text("name,tags\n" + "\n".join(lines) + "\n")
    profile = tmp_path / "profile.toml"
    system.profile.save(profile)
    ran = await mdm(
        "--timeout", "60", "device", "import", file, "--model", model, "--yes", MDM_PROFILE=str(profile)
    )
    assert ran.status == 1
    assert [line for line in ran.errors.splitlines() if line.startswith("line ")] == [
        line for line in ran.errors.splitlines() if line.startswith("line 26: tags")
    ]
    assert str(IMPORTED - 1) in ran.output
    counted = [found.devices for found in (await fleet.ask(admin.MODEL_LIST)).models if found.code == model]
    assert counted == [IMPORTED - 1]


async def test_an_import_that_is_interrupted_or_run_twice_at_once_adds_each_device_once(
    fleet: Fleet, system: System, tmp_path: Path
) -> None:
    model = await fleet.model()
    names = [f"Küche {number}" for number in range(60)]
    file = tmp_path / "Geräte.csv"
    text = "".join(f"{line}\r\n" for line in ("Name;Tags", *(f"{name};south, attic" for name in names)))
    file.write_bytes(text.encode("cp1252"))
    profile = tmp_path / "profile.toml"
    system.profile.save(profile)
    environment = {"MDM_PROFILE": str(profile)}
    words = ("--timeout", "60", "--json", "device", "import", str(file), "--model", model, "--yes")

    process = await asyncio.create_subprocess_exec(
        MDM, *words, stdout=asyncio.subprocess.PIPE, env={**os.environ, **environment}
    )
    registry = system.services["registry"]
    # More than are on the way at a time, so that some are answered; the others wait until the tool has ended.
    await until(lambda: count_of(system, model), lambda count: count > 2 * batches.AT_ONCE)
    registry.send_signal(signal.SIGSTOP)
    try:
        process.send_signal(signal.SIGINT)
        output, _ = await process.communicate()
    finally:
        registry.send_signal(signal.SIGCONT)
    assert process.returncode not in {0, None}
    interrupted = json.loads(output)
    assert 0 < len(interrupted["added"]) < 60
    assert interrupted["open"] == 60 - len(interrupted["added"])

    both = await asyncio.gather(mdm(*words, **environment), mdm(*words, **environment))

    assert [ran.status for ran in both] == [0, 0], [ran.errors for ran in both]
    devices = await listed(fleet, model=model)
    assert sorted(device.name for device in devices) == sorted(names)
    assert {tuple(device.tags) for device in devices} == {("south", "attic")}
    for ran in both:
        summary = json.loads(ran.output)
        assert summary["refused"] == []
        assert set(interrupted["added"]) <= set(summary["present"])
        assert sorted(summary["added"] + summary["present"]) == sorted(device.client_id for device in devices)
