"""Services as processes: they say that they are there, end cleanly, and name what is wrong with their settings."""

from __future__ import annotations

import asyncio
import signal
import subprocess
import sys

import pytest

from shared import topics
from shared.messages import ServiceStatus
from tests.credentials import account_client
from tests.servers.base import Process
from tests.system import SERVICES, System


async def status(system: System, pid: int, *, online: bool) -> ServiceStatus:
    """Wait for what the process says of itself, or the broker of it."""
    async with account_client(system.stack.endpoints, "admin") as client:
        await client.subscribe(topics.SERVICE_STATUS.filter, qos=1)
        async with asyncio.timeout(20):
            async for message in client.messages:
                names = topics.SERVICE_STATUS.match(str(message.topic))
                assert names is not None
                assert isinstance(message.payload, bytes)
                said = topics.SERVICE_STATUS.decode(message.payload)
                if names["instance"].endswith(f"-{pid}") and said.online == online:
                    return said
    raise AssertionError


def ended(process: Process) -> None:
    while process.running:
        pass


async def start(system: System, service: str) -> Process:
    return await asyncio.to_thread(lambda: system.start(service, name=f"another-{service}"))


@pytest.mark.parametrize("service", SERVICES)
async def test_a_service_ends_cleanly_within_5_seconds_of_sigterm_and_says_so(
    system: System, service: str
) -> None:
    process = await start(system, service)
    pid = process.pid
    await status(system, pid, online=True)
    process.send_signal(signal.SIGTERM)
    async with asyncio.timeout(5):
        await asyncio.to_thread(ended, process)
    await status(system, pid, online=False)
    assert "Traceback" not in process.log_tail(50)
    system.stop(f"another-{service}")


async def test_the_broker_says_that_a_killed_service_is_gone(system: System) -> None:
    process = await start(system, "firmware")
    pid = process.pid
    system.services.pop("another-firmware")
    await asyncio.to_thread(process.kill)
    await status(system, pid, online=False)


async def test_one_rotator_says_that_it_leads_and_the_other_that_it_stands_by(system: System) -> None:
    another = await start(system, "rotator")
    assert (await status(system, system.services["rotator"].pid, online=True)).role == "leader"
    assert (await status(system, another.pid, online=True)).role == "standby"
    await asyncio.to_thread(system.stop, "another-rotator")


@pytest.mark.parametrize("service", SERVICES)
def test_a_wrong_setting_ends_the_start_with_its_name(system: System, service: str) -> None:
    environment = {**system.environment(service), "MDM_MQTT_PORT": "99999", "MDM_LOG_FORMAT": "xml"}
    del environment["MDM_DATABASE_URL"]
    ran = subprocess.run(
        [sys.executable, "-m", f"services.{service}.main"],
        capture_output=True,
        text=True,
        env=environment,
        timeout=30,
        check=False,
    )
    assert ran.returncode == 1
    assert "Traceback" not in ran.stderr
    for name in ("MDM_DATABASE_URL", "MDM_MQTT_PORT", "MDM_LOG_FORMAT"):
        assert name in ran.stderr
