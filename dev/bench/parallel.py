"""A campaign with more and more devices at a time: devices per second, and Keycloak's own changes per second."""

from __future__ import annotations

import asyncio
import tempfile
import time
from collections.abc import Mapping
from functools import partial
from pathlib import Path
from typing import Any, Final

from dev import credentials
from dev.bench.report import Report
from dev.fleet import Fleet
from dev.simulator import simulating
from dev.system import System
from shared.protocol import admin
from shared.protocol.admin import Package

DEVICES: Final = 100
AT_ONCE: Final = (1, 4, 16)
PATIENCE_S: Final = 600


async def _keycloak_s(system: System, package: Package, at_once: int) -> float:
    """Return the seconds that Keycloak takes to change a client and issue a token for each device."""
    endpoints, turns = system.stack.endpoints, asyncio.Semaphore(at_once)
    async with credentials.client_in_keycloak(endpoints, package) as (http, path, found):

        async def change() -> None:
            async with turns:
                (await http.put(path, json=found)).raise_for_status()
                await credentials.keycloak_token(package)

        began = time.perf_counter()
        await asyncio.gather(*(change() for _ in range(DEVICES)))
        return time.perf_counter() - began


def _have_rotated(total: int, counts: Mapping[str, Any]) -> bool:
    return bool(counts["rotations"] == total)


async def run(system: System, fleet: Fleet) -> Report:
    """Rotate the secrets of all devices again and again, with more at a time."""
    model = await fleet.model()
    package = await fleet.device()
    rows: list[Mapping[str, Any]] = []
    with tempfile.TemporaryDirectory(dir=fleet.folder) as folder:
        async with simulating(system, Path(folder), "--devices", DEVICES, "--model", model) as simulator:
            await simulator.until(lambda it: it["configured"] == DEVICES, patience_s=PATIENCE_S)
            for number, at_once in enumerate(AT_ONCE, start=1):
                total, slots = number * DEVICES, str(at_once)
                async with system.altered(
                    "rotator", MDM_ROTATION_MAX_PARALLEL=slots, MDM_ROTATION_DEADLINE_S="600"
                ):
                    alone_s = await _keycloak_s(system, package, at_once)
                    began = time.perf_counter()
                    await fleet.ask(admin.ROTATION_START, model=model)
                    await simulator.until(partial(_have_rotated, total), patience_s=PATIENCE_S)
                    took = time.perf_counter() - began
                rows.append(
                    {
                        "at_once": at_once,
                        "devices_per_s": round(DEVICES / took, 1),
                        "keycloak_alone_per_s": round(DEVICES / alone_s, 1),
                        "of_baseline": round(alone_s / took, 2),
                        "million_devices_in_h": round(1_000_000 * took / DEVICES / 3600, 1),
                    }
                )
    return Report(f"{DEVICES} devices rotate their secrets, so many at a time", rows)
