"""All devices reconnect at once: each connects with TLS, reports its status and requests its configuration."""

from __future__ import annotations

import asyncio
import ssl
import time
from collections.abc import Mapping
from typing import Any, Final

from dev import database
from dev.bench import echo
from dev.bench.light import Light
from dev.bench.population import PASSWORD, Device
from dev.bench.report import Report
from dev.bench.servers import echoing
from dev.stack import Stack
from dev.system import System
from shared.protocol import topics
from shared.protocol.messages import ConfigGet, Status

DEVICES: Final = 2000
ROUNDS: Final = 2
AT_ONCE: Final = 100
"""Number of concurrent handshakes: the length of the queue of the broker's socket."""
PATIENCE_S: Final = 120.0
STORED: Final = "SELECT count(*) AS found FROM mdm.device_presence WHERE online AND status->>'rssi_dbm' = $1"


async def until_stored(stack: Stack, rssi_dbm: int, count: int) -> int:
    """Wait until this number of statuses with this mark are stored, up to the timeout; return how many are."""
    found = 0
    give_up_at = time.perf_counter() + PATIENCE_S
    while found < count and time.perf_counter() < give_up_at:
        found = (await database.run(stack, STORED, str(rssi_dbm)))[0]["found"]
        await asyncio.sleep(0.05)
    return found


async def _storm(system: System, *, status: str, question: str, rssi_dbm: int) -> tuple[float, int]:
    """Connect all; return the seconds until the last is answered, and how many are."""
    endpoints = system.stack.endpoints
    trust = ssl.create_default_context(cafile=endpoints.ca_file)
    turn = asyncio.Semaphore(AT_ONCE)
    payload = topics.STATUS.encode(
        Status(online=True, firmware_version="1.0.0", firmware_sha256="1" * 64, rssi_dbm=rssi_dbm)
    )
    asked = topics.CONFIG_GET.encode(ConfigGet(request_id="storm"))
    lights: list[Light] = []

    async def come(device: Device) -> bool:
        names = {"client_id": device.client_id}
        answered = asyncio.Event()
        light = Light(lambda _topic, payload: answered.set() if b'"storm"' in payload else None)
        lights.append(light)
        async with turn:
            await light.connect(
                endpoints.mqtt_host, endpoints.device_mqtt_port, device.client_id, PASSWORD, trust=trust
            )
        await light.subscribe(topics.CONFIG.of(**names))
        light.publish(status.format(**names).encode(), payload, retain=True)
        light.publish(question.format(**names).encode(), asked)
        try:
            async with asyncio.timeout(PATIENCE_S):
                return await answered.wait()
        except TimeoutError:
            return False

    began = time.perf_counter()
    answered = sum(await asyncio.gather(*(come(Device(number)) for number in range(DEVICES))))
    took = time.perf_counter() - began
    for light in lights:
        light.close()
    return took, answered


async def run(system: System) -> Report:
    """Measure the services and the echo in turn."""
    rows: list[Mapping[str, Any]] = []
    async with echoing(system):
        for number in range(1, ROUNDS + 1):
            bare, _ = await _storm(system, status=echo.STATUS, question=echo.QUESTION, rssi_dbm=-number)
            began = time.perf_counter()
            took, answered = await _storm(
                system, status=topics.STATUS.template, question=topics.CONFIG_GET.template, rssi_dbm=-number
            )
            stored = await until_stored(system.stack, -number, DEVICES)
            rows.append(
                {
                    "round": number,
                    "answered": answered,
                    "seconds_until_the_last_is_answered": round(took, 2),
                    "seconds_with_an_echo_instead": round(bare, 2),
                    "of_baseline": round(bare / took, 2),
                    "statuses_stored": stored,
                    "seconds_until_all_are_stored": round(time.perf_counter() - began, 2),
                }
            )
    return Report(f"{DEVICES} devices connect at once, report their status and request their configuration", rows)
