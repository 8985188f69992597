"""Devices' logs on the real stack: kept once and in order, for a while, shown without their escape sequences."""

from __future__ import annotations

import asyncio
import json
import os
import secrets
from collections.abc import Callable

import pytest

from dev.credentials import device_client
from dev.database import run
from dev.fleet import Fleet
from dev.system import System
from dev.waiting import PATIENCE_S, until
from shared.protocol import admin, messages, topics
from shared.protocol.admin import LogLineView, Package
from shared.protocol.messages import Log, LogLevel, LogLine
from tests.integration.test_coredumps import offer_of, offered, usual
from tests.integration.test_tool import MDM, environment, mdm
from tests.raw import RawDevice

__all__ = ["environment", "usual"]

EVIL = "\x1b[31mred\x1b]0;title\x07\x9b2J\u202egone\r\nnext"
DRIVING = {character for character in EVIL if not character.isprintable()}


def log_of(*texts: str, boot: int = 1, first: int = 0, level: LogLevel = LogLevel.INFO) -> Log:
    lines = [LogLine(level=level, message=text, tag="wifi", uptime_ms=1) for text in texts]
    return Log(boot=boot, first=first, lines=lines)


async def lines_of(fleet: Fleet, package: Package, **fields: object) -> list[LogLineView]:
    return (await fleet.ask(admin.LOG_LIST, device=package.client_id, limit=500, **fields)).lines


async def until_lines(fleet: Fleet, package: Package, hold: Callable[[list[str]], bool]) -> list[LogLineView]:
    """Look again and again until a fact holds for the texts that were kept."""
    return await until(
        lambda: lines_of(fleet, package),
        lambda found: hold([line.message for line in found]),
        within_s=PATIENCE_S,
    )


async def test_a_device_tells_of_its_connections_and_rotations_but_no_secret(fleet: Fleet) -> None:
    package = await fleet.device()
    async with fleet.powered(package):
        await fleet.until(package, lambda view: view.online)
        await fleet.ask(admin.ROTATION_START, device=package.client_id)
        await fleet.seen(package, "rotation/completed")
        lines = await until_lines(fleet, package, lambda texts: any("generation=2" in text for text in texts))
    after = await fleet.ask(admin.DEVICE_PROVISION, device=package.client_id)
    texts = [line.message for line in lines]
    assert texts[0].startswith("device.booted")
    assert any(text.startswith("rotation.stored") for text in texts)
    assert not [text for text in texts for it in (package, after) if it.secret in text]
    assert [line.number for line in lines] == list(range(len(lines)))


async def test_lines_that_come_twice_are_kept_once_and_in_order(fleet: Fleet) -> None:
    package = await fleet.device()
    async with RawDevice(package) as device:
        for _ in range(2):
            await device.send(topics.LOG, log_of("one", "two"))
            await device.send(topics.LOG, log_of("two", "three", first=1))
        await device.send(topics.LOG, log_of("another start", boot=2))
        await device.client.publish(
            topics.LOG.of(client_id=package.client_id), topics.LOG.encode(log_of("QoS 0", boot=3)), qos=0
        )
        lines = await until_lines(fleet, package, lambda texts: "QoS 0" in texts)
    assert [line.message for line in lines] == ["one", "two", "three", "another start", "QoS 0"]
    assert (lines[0].level, lines[0].tag, lines[0].uptime_ms, lines[0].time) == ("info", "wifi", 1, None)


async def test_only_the_newest_lines_of_a_device_are_kept(fleet: Fleet, system: System, usual: None) -> None:
    del usual
    await system.restart("firmware", MDM_LOG_LINES_KEPT="5")
    package, other = await fleet.device(), await fleet.device()
    async with RawDevice(other) as device:
        await device.send(topics.LOG, log_of("of another device"))
        await until_lines(fleet, other, bool)
    async with RawDevice(package) as device:
        for number in range(12):
            await device.send(topics.LOG, log_of(str(number), first=number))
        lines = await until_lines(fleet, package, lambda texts: "11" in texts)
    assert [line.message for line in lines] == ["7", "8", "9", "10", "11"]
    assert len(await lines_of(fleet, other)) == 1


async def test_lines_are_forgotten_after_their_time(fleet: Fleet, system: System) -> None:
    package = await fleet.device()
    async with RawDevice(package) as device:
        await device.send(topics.LOG, log_of("old", "new"))
        await until_lines(fleet, package, bool)
    await run(
        system.stack,
        "UPDATE mdm.device_log SET received_at = received_at - interval '7 days' WHERE message = 'old'"
        " AND device_id = (SELECT id FROM mdm.devices WHERE key = $1)",
        package.device_key,
    )
    await system.restart("firmware")
    await until_lines(fleet, package, lambda texts: texts == ["new"])


async def test_lines_that_come_while_the_service_is_dead_cost_nothing_but_themselves(
    fleet: Fleet, system: System
) -> None:
    package = await fleet.device()
    async with RawDevice(package) as device:
        await device.send(topics.LOG, log_of("before"))
        await until_lines(fleet, package, bool)
        await asyncio.to_thread(system.services["firmware"].kill)
        await asyncio.to_thread(system.services["firmware"].start)
        async with asyncio.timeout(PATIENCE_S):
            while "after" not in [line.message for line in await lines_of(fleet, package)]:
                await device.send(topics.LOG, log_of("after", first=1))
    assert [line.message for line in await lines_of(fleet, package)] == ["before", "after"]


async def test_a_flood_of_lines_is_kept_and_holds_nothing_else_up(fleet: Fleet) -> None:
    noisy, quiet = await fleet.device(), await fleet.device()
    texts = [str(number) for number in range(50)]
    async with RawDevice(noisy) as device, RawDevice(quiet) as other:
        flood = [device.send(topics.LOG, log_of(*texts, first=50 * number)) for number in range(100)]
        for sending in asyncio.as_completed(flood):
            await sending
            answer = await offered(other, offer_of(bytes(1000)))
            assert isinstance(answer, messages.CoreDumpWanted)
        found: list[LogLineView] = []
        after = 0
        async with asyncio.timeout(PATIENCE_S):
            while len(found) < 50 * 100:
                page = await fleet.ask(admin.LOG_LIST, device=noisy.client_id, after=after, limit=500)
                found, after = found + page.lines, page.next
    assert len({line.number for line in found}) == len(found)


async def test_a_device_cannot_speak_for_another(fleet: Fleet) -> None:
    mine, other = await fleet.device(), await fleet.device()
    async with device_client(other) as thief:
        for client_id in (mine.client_id, other.client_id):
            topic = topics.LOG.of(client_id=client_id)
            await thief.publish(topic, topics.LOG.encode(log_of("hello")), qos=1)
        await until_lines(fleet, other, bool)
    assert await lines_of(fleet, mine) == []


async def test_lines_are_found_by_level_and_time(fleet: Fleet, system: System) -> None:
    package = await fleet.device()
    async with RawDevice(package) as device:
        for number, level in enumerate(LogLevel):
            await device.send(topics.LOG, log_of(level, first=number, level=level))
        await until_lines(fleet, package, lambda texts: "error" in texts)
    await run(
        system.stack,
        "UPDATE mdm.device_log SET received_at = received_at - interval '1 hour' WHERE level = 'warning'"
        " AND device_id = (SELECT id FROM mdm.devices WHERE key = $1)",
        package.device_key,
    )
    assert [it.message for it in await lines_of(fleet, package, level="warning")] == ["warning", "error"]
    assert [it.message for it in await lines_of(fleet, package, since_s=1800)] == ["debug", "info", "error"]
    newest = await fleet.ask(admin.LOG_LIST, device=package.client_id, limit=2)
    assert [it.message for it in newest.lines] == ["warning", "error"]


async def test_what_drives_a_terminal_never_reaches_it(fleet: Fleet, environment: dict[str, str]) -> None:
    package = await fleet.device()
    async with RawDevice(package) as device:
        await device.send(topics.LOG, log_of(EVIL))
        await until_lines(fleet, package, bool)
    shown = await mdm("log", "show", package.device_key, "--since", "1h", **environment)
    tailed = await mdm("log", "tail", package.device_key, "--count", "1", "--json", **environment)
    as_json = await mdm("log", "show", package.device_key, "--json", **environment)
    for ran in (shown, tailed, as_json):
        assert ran.status == 0, ran.errors
        assert not set(ran.output) & (DRIVING - {"\n"})
    assert len(shown.output.splitlines()) == 1
    assert "red" in shown.output
    assert json.loads(tailed.output)["message"] == EVIL
    assert json.loads(as_json.output)["lines"][0]["message"] == EVIL


@pytest.mark.parametrize("by", ["device", "tag", "model", "all"])
async def test_tail_sees_new_lines_of_those_that_it_follows(
    fleet: Fleet, environment: dict[str, str], by: str
) -> None:
    tag = f"t{secrets.token_hex(4)}"
    model = await fleet.model()
    package, other = await fleet.device(model, tags=[tag]), await fleet.device()
    which = {"device": [package.device_key], "tag": ["--tag", tag], "model": ["--model", model], "all": []}[by]
    async with RawDevice(package) as device, RawDevice(other) as stranger:
        await device.send(topics.LOG, log_of("there before"))
        await until_lines(fleet, package, bool)
        process = await asyncio.create_subprocess_exec(
            *(MDM, "--json", "log", "tail", *which, "--lines", "1", "--count", "3"),
            stdout=asyncio.subprocess.PIPE,
            env={**os.environ, **environment},
        )
        assert process.stdout is not None
        async with asyncio.timeout(PATIENCE_S):
            first = json.loads(await process.stdout.readline())
            await stranger.send(topics.LOG, log_of("foreign"))
            await until_lines(fleet, other, bool)
            await device.send(topics.LOG, log_of("new", "newer", first=1))
            rest = [json.loads(line) async for line in process.stdout]
            assert await process.wait() == 0
    texts = ["foreign", "new"] if by == "all" else ["new", "newer"]
    assert [line["message"] for line in (first, *rest)] == ["there before", *texts]
