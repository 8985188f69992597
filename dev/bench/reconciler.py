"""One comparison of all devices in database, Keycloak and broker, in processor time of each process."""

from __future__ import annotations

import time
from typing import Any, Final
from uuid import uuid4

from dev.bench import population
from dev.bench.growth import rss_mib
from dev.bench.report import Report
from dev.fleet import Fleet
from dev.soak.measure import cpu_s
from dev.system import System
from shared.protocol import admin

SIZES: Final = (2_000, 4_000)
ROUNDS: Final = 3
_PATIENCE_S: Final = 1800


async def run(system: System, fleet: Fleet) -> Report:
    """Compare with increasing numbers of devices; a repair before adds what they lack, client and account."""
    rows: list[dict[str, Any]] = []
    for size in SIZES:
        await population.insert(system.stack.endpoints.database_url, 0, size)
        await _compared(fleet, repair=True)
        rows.append(await _cost(system, fleet))
    return Report("a comparison of all devices, seconds of processor time", rows)


async def _cost(system: System, fleet: Fleet) -> dict[str, Any]:
    servers = system.stack
    pids = {
        "keycloak_s": servers.keycloak.pid,
        "registry_s": system.services["registry"].pid,
        "postgres_s": servers.postgres.pid,
        "broker_s": servers.broker.pid,
    }
    before, began = {name: cpu_s(pid) for name, pid in pids.items()}, time.perf_counter()
    for _ in range(ROUNDS):
        diagnosis = await _compared(fleet, repair=False)
    seconds = time.perf_counter() - began
    spent = {name: (cpu_s(pid) - before[name]) / ROUNDS for name, pid in pids.items()}
    return {
        "devices": diagnosis.devices,
        **{name: round(it, 2) for name, it in spent.items()},
        "in_all_s": round(sum(spent.values()), 2),
        "took_s": round(seconds / ROUNDS, 2),
        "registry_mib": round(rss_mib(pids["registry_s"])),
    }


async def _compared(fleet: Fleet, *, repair: bool) -> admin.Diagnosis:
    operation = admin.DOCTOR_REPAIR if repair else admin.DOCTOR
    return await fleet.admin.call(operation, admin.Nothing(request_id=uuid4().hex), timeout_s=_PATIENCE_S)
