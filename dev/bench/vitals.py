"""Vitals: how many messages a second are stored, what 30 days of them take, and how fast they are compared.

One connection publishes the messages of 2,000 devices with the registry's account; each device has four vitals.
Then 3,000 devices have 30 days of them.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Mapping
from typing import Any, Final

from dev import database
from dev.bench import population
from dev.bench.light import Light
from dev.bench.population import PopulationDevice
from dev.bench.report import Report
from dev.bench.statuses import ACCOUNT
from dev.bench.storm import PATIENCE_S
from dev.fleet import Fleet
from dev.stack import Stack
from dev.system import System
from shared.protocol import admin, topics
from shared.protocol.messages import Vitals

DEVICES: Final = 2000
ROUNDS: Final = ("the first of the hour", "the next", "the third")
KEPT: Final = 3000
"""Devices with 30 days of vitals."""
DAYS: Final = 30
_STORED: Final = "SELECT count(*) AS found FROM mdm.device_vitals WHERE names LIKE '%round' AND numbers[23] = $1"
_MONTH: Final = """
INSERT INTO mdm.device_vitals (device_id, hour, version, names, numbers)
SELECT d.id, date_trunc('hour', now()) - n * interval '1 hour', CASE WHEN n < 200 THEN '1.1.0' ELSE '1.0.0' END,
    'uptime_s heap_free_bytes heap_min_free_bytes rssi_dbm', ARRAY[
        12, 86400 + n, 88000 + n, 90000 + n, 90000 + n, 3540,
        12, 132000 - n, 138000 - n, 142000 - n, 141000 - n, 3540,
        12, 98000, 98000, 98000, 98000, 3540,
        12, -71, -65, -60, -66, 3540]
FROM generate_series(1, $1 * 24) n, (SELECT id FROM mdm.devices ORDER BY id LIMIT $2) d
ORDER BY n DESC, d.id
"""
_SIZE: Final = "SELECT pg_total_relation_size('mdm.device_vitals') AS size"


async def _until_stored(stack: Stack, number: int) -> int:
    """Wait until the messages of this round are stored, up to the timeout; return how many are."""
    found = 0
    give_up_at = time.perf_counter() + PATIENCE_S
    while found < DEVICES and time.perf_counter() < give_up_at:
        found = (await database.run(stack, _STORED, number))[0]["found"]
        await asyncio.sleep(0.05)
    return found


async def run(system: System, fleet: Fleet) -> Report:
    """Measure the storing in some rounds, then the size of a month and the comparison of its last day."""
    await population.insert(system.stack.endpoints.database_url, 0, KEPT)
    endpoints = system.stack.endpoints
    light = Light()
    await light.connect(endpoints.mqtt_host, endpoints.mqtt_port, ACCOUNT, endpoints.accounts[ACCOUNT])
    rows: list[Mapping[str, Any]] = []
    for number, what in enumerate(ROUNDS):
        numbers = {"uptime_s": 86400.0, "heap_free_bytes": 142_336.0, "rssi_dbm": -61.0, "round": float(number)}
        payload = topics.VITALS.encode(Vitals(numbers))
        began = time.perf_counter()
        for device in map(PopulationDevice, range(DEVICES)):
            light.publish(topics.VITALS.of(client_id=device.client_id).encode(), payload)
        stored = await _until_stored(system.stack, number)
        took = time.perf_counter() - began
        rows.append(_row(what, stored=stored, seconds=round(took, 2), messages_per_s=round(stored / took)))
    light.close()
    await database.run(system.stack, "TRUNCATE mdm.device_vitals")
    before = (await database.run(system.stack, _SIZE))[0]["size"]
    await database.run(system.stack, _MONTH, DAYS, KEPT)
    await database.run(system.stack, "ANALYZE mdm.device_vitals")
    size = (await database.run(system.stack, _SIZE))[0]["size"] - before
    rows.append(_row(f"{DAYS} days of {KEPT} devices", stored=DAYS * 24 * KEPT, bytes_a_device=size // KEPT))
    for name, hours in ((None, 6), ("heap_free_bytes", 6), ("heap_free_bytes", 24 * DAYS)):
        began = time.perf_counter()
        await fleet.ask(admin.VITALS_COMPARE, model=population.MODEL, since_s=hours * 3600, name=name)
        took = time.perf_counter() - began
        what = f"{name or 'all vitals'} compared over {hours} h"
        rows.append(_row(what, stored=hours * KEPT, seconds=round(took, 2)))
    return Report(f"vitals of {DEVICES} devices", rows)


def _row(what: str, **facts: object) -> Mapping[str, Any]:
    return {"what": what, "stored": None, "seconds": None, "messages_per_s": None, "bytes_a_device": None, **facts}
