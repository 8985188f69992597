"""A campaign, one device at a time: seconds per device, by part, and of Keycloak and the broker alone."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Mapping
from contextlib import AsyncExitStack
from statistics import mean, median
from typing import Any, Final

from dev import campaign, credentials
from dev.bench.measure import timed
from dev.bench.report import Report
from dev.fleet import Fleet
from dev.system import System
from device.options import Options
from shared.protocol import admin, events
from shared.protocol.admin import Package

DEVICES: Final = 20
AT_ONCE: Final = 4
LOOKS: Final = 5


async def _alone(system: System, package: Package) -> Mapping[str, float]:
    """Return the seconds that Keycloak and the broker take for a device without other load, by part."""
    endpoints = system.stack.endpoints
    async with credentials.client_in_keycloak(endpoints, package) as (http, path, found):

        async def change() -> None:
            (await http.put(path, json=found)).raise_for_status()
            await credentials.keycloak_token(package)

        async def log_in() -> None:
            await credentials.broker_accepts(package)

        async def seconds(operation: Callable[[], Awaitable[None]]) -> float:
            return median([await timed(operation) for _ in range(LOOKS)])

        return {
            "to switched (Keycloak and the broker)": await seconds(change),
            "to done (the device logs in)": await seconds(log_in),
        }


async def run(system: System, fleet: Fleet) -> Report:
    """Rotate all secrets; the parts come from the rotator's history."""
    model = await fleet.model()
    few = asyncio.Semaphore(AT_ONCE)

    async def device() -> Package:
        async with few:
            return await fleet.device(model)

    packages = await asyncio.gather(*(device() for _ in range(DEVICES)))
    alone = await _alone(system, packages[0])

    async def online() -> int:
        return len((await fleet.ask(admin.DEVICE_LIST, model=model, online=True)).devices)

    async with AsyncExitStack() as powered:
        for package in packages:
            await powered.enter_async_context(fleet.powered(package, options=Options()))
        await fleet.witness.until(online, lambda count: count == DEVICES)
        await fleet.ask(admin.ROTATION_START, model=model)
        for package in packages:
            await fleet.seen(package, events.ROTATION_COMPLETED)
        entries = [
            entry
            for package in packages
            for entry in (await fleet.ask(admin.ROTATION_HISTORY, device=package.client_id)).rotations
        ]
    entries.sort(key=lambda entry: entry.started_at)
    parts = campaign.parts(entries)
    rows: list[Mapping[str, Any]] = [
        {
            "part": part,
            "seconds_a_device": round(seconds, 3),
            "of_all": round(seconds / sum(parts.values()), 2),
            "baseline_s": round(alone[part], 3) if part in alone else None,
        }
        for part, seconds in {**parts, "all": sum(parts.values())}.items()
    ]
    took = mean(entry.duration_s or 0.0 for entry in entries)
    return Report(f"{DEVICES} devices rotate their secrets, one at a time: {took:.2f} s from offer to end", rows)
