"""The statuses of 10,000 devices at once: time until all are stored, and whether any is lost.

One connection publishes all of them with the registry's account, as another benchmark measures logins. All three
services receive them.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Mapping
from typing import Any, Final

from dev.bench import echo, population
from dev.bench.light import Light
from dev.bench.population import Device
from dev.bench.report import Report
from dev.bench.servers import echoing
from dev.bench.storm import until_stored
from dev.system import System
from shared.protocol import topics
from shared.protocol.messages import Status

DEVICES: Final = 10_000
ACCOUNT: Final = "svc-registry"
ROUNDS: Final = {"they come online": -101, "they repeat it": -102}
"""The published statuses and their marks; devices that come online also cause an event."""


async def run(system: System) -> Report:
    """Measure in turn a receiver that stores nothing, and the services."""
    await population.insert(system.stack.endpoints.database_url, population.COUNT, DEVICES)
    endpoints = system.stack.endpoints
    devices = [Device(number) for number in range(DEVICES)]
    answered = asyncio.Event()
    light = Light(lambda _topic, _payload: answered.set())
    await light.connect(endpoints.mqtt_host, endpoints.mqtt_port, ACCOUNT, endpoints.accounts[ACCOUNT])
    asking = Light(lambda _topic, _payload: answered.set())
    await asking.connect(endpoints.mqtt_host, endpoints.mqtt_port, devices[0].client_id, population.PASSWORD)
    await asking.subscribe(topics.CONFIG.of(client_id=devices[0].client_id))

    def publish(topic: str, rssi_dbm: int) -> None:
        status = topics.STATUS.encode(
            Status(online=True, firmware_version="1.0.0", firmware_sha256="1" * 64, rssi_dbm=rssi_dbm)
        )
        for device in devices:
            light.publish(topic.format(client_id=device.client_id).encode(), status)

    rows: list[Mapping[str, Any]] = []
    async with echoing(system):
        for what, mark in ROUNDS.items():
            answered.clear()
            began = time.perf_counter()
            publish(echo.STATUS, mark)
            # The last message on a connection is also received last.
            light.publish(echo.QUESTION.format(client_id=devices[0].client_id).encode(), b'{"request_id":"last"}')
            await answered.wait()
            received_s = time.perf_counter() - began
            began = time.perf_counter()
            publish(topics.STATUS.template, mark)
            stored = await until_stored(system.stack, mark, DEVICES)
            took = time.perf_counter() - began
            rows.append(
                {
                    "round": what,
                    "stored": stored,
                    "seconds": round(took, 2),
                    "statuses_per_s": round(stored / took),
                    "seconds_to_receive_only": round(received_s, 2),
                    "of_baseline": round(received_s / took, 2),
                }
            )
    light.close()
    asking.close()
    return Report(f"{DEVICES} statuses at once", rows)
