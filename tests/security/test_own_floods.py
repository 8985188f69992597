"""Floods of the devices' own traffic, which no service limits: what the broker's limits make of them."""

from __future__ import annotations

import asyncio
import statistics
import sys
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final
from uuid import uuid4

import pytest

from cli.profile import Profile
from dev.fleet import Fleet
from dev.servers.base import Process
from dev.stack import Stack
from dev.system import System
from dev.waiting import PATIENCE_S
from shared.protocol import admin, topics
from shared.protocol.admin import Package, Role
from shared.protocol.messages import ConfigGet
from tests.integration.test_accounts import new_account
from tests.own_flooder import Flood
from tests.raw import RawDevice

KIB: Final = 1024
MIB: Final = 1024 * KIB
RADIO_BYTES_PER_S: Final = 2_500_000
"""20 Mbit/s: more than an ESP32 sends over Wi-Fi and TLS."""
DEVICES: Final = 5
ROUNDS: Final = 3
ROUND_S: Final = 1.0
MEASUREMENTS: Final = 3


@dataclass(slots=True)
class Times:
    """How long answers of the services took, in seconds."""

    configurations: list[float] = field(default_factory=list)
    requests: list[float] = field(default_factory=list)


def as_device(package: Package, **facts: object) -> Flood:
    return Flood.model_validate(
        {
            "host": package.mqtt_host,
            "port": package.mqtt_port,
            "account": package.client_id,
            "password": package.secret,
            "ca_certificate": package.ca_certificate,
            **facts,
        }
    )


def as_consumer(profile: Profile, **facts: object) -> Flood:
    password = profile.password.get_secret_value()
    return Flood.model_validate(
        {"host": profile.host, "port": profile.port, "account": profile.account, "password": password, **facts}
    )


@asynccontextmanager
async def running(flood: Flood, folder: Path) -> AsyncIterator[asyncio.subprocess.Process]:
    """Run a flood, or its reader, until the block ends."""
    file = folder / f"{uuid4().hex}.json"
    file.write_text(flood.model_dump_json())
    pipe = asyncio.subprocess.PIPE
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "tests.own_flooder", str(file), stdin=pipe, stdout=pipe
    )
    try:
        await said(process, b"connected\n")
        yield process
    finally:
        assert process.stdin is not None
        process.stdin.close()
        await process.wait()


async def said(process: asyncio.subprocess.Process, line: bytes) -> None:
    assert process.stdout is not None
    async with asyncio.timeout(PATIENCE_S):
        assert await process.stdout.readline() == line


async def measure(fleet: Fleet, devices: list[RawDevice], times: Times) -> None:
    """Ask for configurations and make requests for a while, and add how long the answers took."""
    loop = asyncio.get_running_loop()
    end = loop.time() + ROUND_S

    async def configure(device: RawDevice) -> None:
        while (began := loop.time()) < end:
            question = ConfigGet(request_id=uuid4().hex)
            await device.send(topics.CONFIG_GET, question)
            while (await device.receive(topics.CONFIG)).request_id != question.request_id:
                pass
            times.configurations.append(loop.time() - began)
            await asyncio.sleep(0.1)

    async def request() -> None:
        while (began := loop.time()) < end:
            await fleet.ask(admin.MODEL_LIST)
            times.requests.append(loop.time() - began)
            await asyncio.sleep(0.1)

    await asyncio.gather(request(), *map(configure, devices))


async def measured(fleet: Fleet, folder: Path, sending: Flood, reading: Flood) -> tuple[Times, Times]:
    """Return the times without and with a flood, in turns, as other work of the machine comes and goes."""
    model = await fleet.model()
    packages = [await fleet.device(model) for _ in range(DEVICES)]
    quiet, flooded = Times(), Times()
    async with AsyncExitStack() as stack:
        devices = [await stack.enter_async_context(RawDevice(package)) for package in packages]
        await measure(fleet, devices, Times())
        for _ in range(ROUNDS):
            await measure(fleet, devices, quiet)
            async with running(reading, folder), running(sending, folder):
                await measure(fleet, devices, flooded)
    return quiet, flooded


@pytest.mark.parametrize("size_bytes", [100, 1900 * KIB], ids=["many", "big"])
async def test_a_device_that_floods_its_own_topics_slows_nobodys_management(
    fleet: Fleet, system: System, tmp_path: Path, size_bytes: int
) -> None:
    evil, profile = await fleet.device(), await new_account(fleet, system, Role.APP)
    flood = {"size_bytes": size_bytes, "bytes_per_s": RADIO_BYTES_PER_S}
    sending = as_device(evil, topic=f"app/{evil.client_id}/up/x", **flood)
    reading = as_consumer(profile, topic="app/+/up/#", reads=True)
    await goes_on(fleet, tmp_path, sending, reading)


@pytest.mark.parametrize("size_bytes", [100, 1900 * KIB], ids=["many", "big"])
async def test_a_consumer_that_floods_a_device_slows_no_others_management(
    fleet: Fleet, system: System, tmp_path: Path, size_bytes: int
) -> None:
    victim, profile = await fleet.device(), await new_account(fleet, system, Role.APP)
    flood = {"size_bytes": size_bytes, "bytes_per_s": RADIO_BYTES_PER_S}
    sending = as_consumer(profile, topic=f"app/{victim.client_id}/down/x", **flood)
    reading = as_device(victim, topic=f"app/{victim.client_id}/down/#", reads=True)
    await goes_on(fleet, tmp_path, sending, reading)


async def goes_on(fleet: Fleet, folder: Path, sending: Flood, reading: Flood) -> None:
    """Assert that answers take less than twice their time in the best of a few measurements.

    Other work on the machine delays some answers, the flood would delay those of each.
    """
    seen: list[float] = []
    while len(seen) < MEASUREMENTS:
        quiet, flooded = await measured(fleet, folder, sending, reading)
        seen.append(
            max(
                statistics.median(flooded.configurations) / statistics.median(quiet.configurations),
                statistics.median(flooded.requests) / statistics.median(quiet.requests),
            )
        )
        if seen[-1] < 2:
            return
    raise AssertionError(f"answers take {seen} times as long")


@pytest.mark.parametrize("size_bytes", [100, 1900 * KIB], ids=["many", "big"])
async def test_a_flood_as_fast_as_the_machine_can_leaves_nobody_without_an_answer(
    fleet: Fleet, system: System, tmp_path: Path, size_bytes: int
) -> None:
    evil, profile = await fleet.device(), await new_account(fleet, system, Role.APP)
    sending = as_device(evil, topic=f"app/{evil.client_id}/up/x", size_bytes=size_bytes)
    reading = as_consumer(profile, topic="app/+/up/#", reads=True)
    _, flooded = await measured(fleet, tmp_path, sending, reading)
    assert len(flooded.configurations) >= ROUNDS * DEVICES
    assert len(flooded.requests) >= ROUNDS


async def test_many_messages_for_a_consumer_that_takes_none_are_dropped_before_they_fill_the_broker(
    fleet: Fleet, system: System, stack: Stack, tmp_path: Path
) -> None:
    broker = stack.broker
    if not isinstance(broker, Process):
        pytest.skip("the memory of a broker in a container is not that of a process here")
    package, profile = await fleet.device(), await new_account(fleet, system, Role.APP)
    reading = as_consumer(profile, topic="app/+/up/#", reads=True, stalls=True)
    sending = as_device(package, topic=f"app/{package.client_id}/up/x", size_bytes=100, messages=500_000)
    before = rss_bytes(broker)
    async with running(reading, tmp_path), running(sending, tmp_path) as flood:
        await said(flood, b"published\n")
        assert rss_bytes(broker) - before < 64 * MIB


def rss_bytes(process: Process) -> int:
    status = Path(f"/proc/{process.pid}/status").read_text()
    return int(status.partition("VmRSS:")[2].split()[0]) * KIB
