"""What a board reports against the rules is left out and shown; nothing else of its message is lost."""

from __future__ import annotations

import json
from functools import partial
from typing import Any

from pydantic import SecretStr

from dev.fleet import Fleet
from dev.stack import Stack
from dev.system import System
from dev.uploads import build, upload
from dev.waiting import until
from shared.database import engine
from shared.database.flaws import FlawRecorder
from shared.protocol import admin, messages, topics
from shared.protocol.flaws import Flaw
from shared.protocol.messages import FirmwareStage
from shared.protocol.topics import Topic
from tests.raw import RawDevice

CLEAN = messages.Status(online=True, firmware_version="1.0.0")


async def send(device: RawDevice, topic: Topic[Any], **facts: object) -> None:
    address = topic.of(client_id=device.client_id)
    await device.client.publish(address, json.dumps(facts), qos=1, retain=topic.retain)


async def test_a_device_with_an_odd_status_is_online_and_the_oddity_is_shown_until_it_is_gone(
    fleet: Fleet, system: System
) -> None:
    package = await fleet.device()
    look = partial(fleet.show, package)
    log = system.services["registry"]
    before = log.log_file.stat().st_size
    async with RawDevice(package) as device:
        for _ in range(3):
            await send(device, topics.STATUS, online=True, firmware_version="2.0.0", rssi_dbm=999, ip="", chip=7)
        view = await until(look, lambda view: view.online and view.flaws)
        assert view.firmware_version == "2.0.0"
        assert [(flaw.topic, flaw.field) for flaw in view.flaws] == [
            ("up/status", "chip"),
            ("up/status", "rssi_dbm"),
        ]
        assert "100" in view.flaws[1].rule
        (finding,) = [
            it for it in await diagnosed(fleet) if it.subject == package.client_id and "rssi" in it.problem
        ]
        assert finding.problem.startswith("up/status: rssi_dbm breaks a rule: ")

        # The will and a goodbye have few fields: they do not tell that the others are in order now.
        await send(device, topics.STATUS, online=False)
        assert (await until(look, lambda view: not view.online)).flaws == view.flaws
        await device.send(topics.STATUS, CLEAN)
        await until(look, lambda view: view.online and not view.flaws)
    assert not [it for it in await diagnosed(fleet) if it.subject == package.client_id]
    lines = [line for line in log.log_since(before).splitlines() if package.client_id.encode() in line]
    assert len([line for line in lines if b"device.flaws" in line]) == 1


async def diagnosed(fleet: Fleet) -> list[admin.Finding]:
    return (await fleet.ask(admin.DOCTOR)).findings


async def test_a_flaw_of_many_devices_is_one_finding(fleet: Fleet) -> None:
    model = await fleet.model()
    packages = [await fleet.device(model) for _ in range(3)]
    for package in packages:
        async with RawDevice(package) as device:
            await send(device, topics.STATUS, online=True, slot_size_bytes=-1)
            await until(partial(fleet.show, package), lambda view: view.flaws)
    (found,) = [it for it in await diagnosed(fleet) if "slot_size_bytes" in it.problem]
    assert found.subject == min(package.client_id for package in packages)
    assert found.problem.endswith("; of 3 devices")
    for package in packages:
        await fleet.ask(admin.DEVICE_REMOVE, device=package.client_id)
    assert not [it for it in await diagnosed(fleet) if "slot_size_bytes" in it.problem]


async def test_a_device_that_writes_chip_and_hash_in_its_own_way_is_updated(fleet: Fleet) -> None:
    """It has no descriptor to read a version and a project from."""
    model = await fleet.model(chip="esp32")
    package = await fleet.device(model)
    image = await upload(fleet, model, build(model, "2.0.0"))
    async with RawDevice(package) as device:
        running = {
            "sha256": "AB" * 32,
            "version": "",
            "project": "",
            "chip": "ESP32-D0WD-V3",
            "slot_size_bytes": 1.5e6,
        }
        await send(device, topics.FIRMWARE_CHECK, request_id="1", **running)
        offer = await device.receive(topics.FIRMWARE_OFFER)
        assert (offer.request_id, offer.sha256) == ("1", image.sha256)

        await send(
            device,
            topics.FIRMWARE_REPORT,
            sha256=image.sha256.upper(),
            stage="failed",
            percent=-1,
            error="no\nspace",
        )
        reported = await fleet.seen(package, "firmware/reported", stage="failed")
        assert reported.data["error"] == "no space"
        (flaw,) = (await until(partial(fleet.show, package), lambda view: view.flaws)).flaws
        assert (flaw.topic, flaw.field) == ("up/firmware/report", "percent")

        await send(device, topics.FIRMWARE_CHECK, request_id="2", **{**running, "chip": "ESP32-S3"})
        assert (await device.receive(topics.FIRMWARE_OFFER)).up_to_date
        await device.send(
            topics.FIRMWARE_REPORT, messages.FirmwareReport(sha256=image.sha256, stage=FirmwareStage.FAILED)
        )
        await until(partial(fleet.show, package), lambda view: not view.flaws)


async def test_replicas_that_share_the_messages_of_a_device_agree_on_its_flaws(fleet: Fleet, stack: Stack) -> None:
    package, flaw = await fleet.device(), Flaw("version", "must be an integer")
    now = 0.0

    async def note(recorder: FlawRecorder, *flaws: Flaw) -> int:
        await recorder.note(package.client_id, topics.CONFIG_REPORT, flaws)
        return len((await fleet.show(package)).flaws)

    async with engine.connected(SecretStr(stack.endpoints.database_url)) as database:
        one, other = (FlawRecorder(database, clock=lambda: now) for _ in range(2))
        assert (await note(one), await note(other)) == (0, 0)
        assert await note(one, flaw) == 1
        now += 3600
        assert await note(other) == 0
        assert await note(one, flaw) == 1
        # As that of an account that somebody has made in the broker.
        await one.set("iotdevice-test", "CONNECT", [flaw])
    await fleet.ask(admin.DEVICE_REMOVE, device=package.client_id)


async def test_an_odd_line_of_a_log_takes_no_other_with_it(fleet: Fleet) -> None:
    package = await fleet.device()
    async with RawDevice(package) as device:
        lines = [
            {"level": "verbose", "message": "one", "time": "2026-01-01T00:00:00"},
            {"level": "error", "message": "two"},
        ]
        await send(device, topics.LOG, boot=1, first=0, lines=lines)
        view = await until(partial(fleet.show, package), lambda view: view.flaws)
        assert [(flaw.topic, flaw.field) for flaw in view.flaws] == [
            ("up/log", "lines.level"),
            ("up/log", "lines.time"),
        ]
        stored = (await fleet.ask(admin.LOG_LIST, device=package.client_id)).lines
        assert [(line.level, line.message, line.time) for line in stored] == [
            ("info", "one", None),
            ("error", "two", None),
        ]
    await fleet.ask(admin.DEVICE_REMOVE, device=package.client_id)
