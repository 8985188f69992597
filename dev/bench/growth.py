"""The same requests with 100 and with 100,000 devices in the database: which costs grow with their number."""

from __future__ import annotations

import re
import time
from collections.abc import Mapping
from contextlib import AsyncExitStack
from pathlib import Path
from statistics import median
from typing import Any, Final

from dev import database
from dev.bench import echo, population
from dev.bench.configuration import MqttRequester
from dev.bench.load import run_load
from dev.bench.population import Device
from dev.bench.report import Report
from dev.bench.servers import echoing
from dev.fleet import Fleet
from dev.system import System
from shared.protocol import admin, topics
from shared.protocol.admin import Operation

SIZES: Final = (100, 1_000, 10_000, 100_000)
ASKERS: Final = 100
SECONDS: Final = 1.5
ROUNDS: Final = 3
LOOKS: Final = 5
# By name in the table: a page has 500 devices at most, a tag is on one device in a thousand.
QUESTIONS: Final[Mapping[str, tuple[Operation[Any, Any], Mapping[str, object]]]] = {
    "first_page_ms": (admin.DEVICE_LIST, {}),
    "a_tag_ms": (admin.DEVICE_LIST, {"tag": "room-7"}),
    "online_ms": (admin.DEVICE_LIST, {"online": True}),
    "drift_ms": (admin.DEVICE_LIST, {"drift": True, "limit": 10}),
    "fleet_ms": (admin.FLEET_SHOW, {}),
    "campaign_ms": (admin.ROTATION_STATUS, {}),
}


def rss_mib(pid: int) -> float:
    """Return the current memory of a process."""
    [found] = re.findall(r"^VmRSS:\s+(\d+) kB$", Path(f"/proc/{pid}/status").read_text(), re.MULTILINE)
    return int(found) / 1024


async def _latency_ms(fleet: Fleet, operation: Operation[Any, Any], fields: Mapping[str, object]) -> float:
    """Return the time until an admin is answered, in milliseconds."""
    took = []
    for _ in range(LOOKS):
        began = time.perf_counter()
        await fleet.ask(operation, **fields)
        took.append(1000 * (time.perf_counter() - began))
    return median(took)


async def run(system: System, fleet: Fleet) -> Report:
    """Delete all devices, then measure with increasing numbers; a fleet of 100 is the baseline."""
    await database.run(system.stack, "DELETE FROM mdm.devices")
    rows: list[dict[str, Any]] = []
    there = 0
    async with AsyncExitStack() as stack:
        await stack.enter_async_context(echoing(system))
        requesters = [MqttRequester(Device(number)) for number in range(ASKERS)]
        for asker in requesters:
            await asker.connect(system)
            stack.callback(asker.light.close)

        async def turn(question: str) -> float:
            for asker in requesters:
                asker.turn_to(question)
            return len(await run_load(SECONDS, requesters)) / SECONDS

        for size in SIZES:
            await population.insert(system.stack.endpoints.database_url, there, size)
            there = size
            rates = [(await turn(echo.QUESTION), await turn(topics.CONFIG_GET.template)) for _ in range(ROUNDS)]
            rows.append(
                {
                    "devices": size,
                    "requests_per_s": round(median(ours for _, ours in rates)),
                    "of_the_echo": round(median(ours / theirs for theirs, ours in rates), 2),
                    **{name: round(await _latency_ms(fleet, *asked), 1) for name, asked in QUESTIONS.items()},
                    "registry_mib": round(rss_mib(system.services["registry"].pid)),
                }
            )
    return Report("by number of devices in the database", rows)
