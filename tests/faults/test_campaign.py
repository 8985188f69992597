"""A campaign over many devices: each gets a new secret, one at a time, and the report says where the time goes.

A second one is over devices of which half sleep: `CAMPAIGN_DEVICES=1000` makes it as large as in
docs/performance.md.
"""

from __future__ import annotations

import asyncio
import os
import time
from contextlib import AsyncExitStack
from itertools import pairwise
from pathlib import Path
from statistics import median
from typing import Final

from dev import credentials
from dev.campaign import parts
from dev.database import run
from dev.fleet import Fleet
from dev.simulator import simulating
from dev.system import System
from dev.waiting import until
from device.options import Options
from shared.protocol import admin
from shared.protocol.admin import Package, RotationEntry
from tests.matrix import reports

DEVICES: Final = 10
AT_ONCE: Final = 8
SLEEPY_DEVICES: Final = int(os.environ.get("CAMPAIGN_DEVICES", "20"))
WAKE_INTERVAL_S: Final = int(os.environ.get("CAMPAIGN_WAKE_INTERVAL_S", "3"))


async def made(fleet: Fleet, model: str) -> list[Package]:
    """Make all devices, some at a time."""
    turn = asyncio.Semaphore(AT_ONCE)

    async def one() -> Package:
        async with turn:
            return await fleet.device(model)

    return list(await asyncio.gather(*(one() for _ in range(DEVICES))))


def report(entries: list[RotationEntry]) -> str:
    """Say how long a device takes, and in which parts."""
    took = [entry.duration_s or 0.0 for entry in entries]
    lines = [f"  {name:<40} {seconds:6.3f} s" for name, seconds in parts(entries).items()]
    size = f"a campaign over {len(entries)} devices, one at a time"
    return "\n".join([f"{size}: median {median(took):.3f} s a device, longest {max(took):.3f} s; mean", *lines])


async def test_a_campaign_gives_each_device_a_new_secret_one_at_a_time(fleet: Fleet, system: System) -> None:
    model = await fleet.model()
    packages = await made(fleet, model)

    async def online() -> int:
        return len((await fleet.ask(admin.DEVICE_LIST, model=model, online=True)).devices)

    async with system.altered("rotator", MDM_ROTATION_DEADLINE_S="60"), AsyncExitStack() as devices:
        for package in packages:
            await devices.enter_async_context(fleet.powered(package, options=Options()))
        await fleet.witness.until(online, lambda count: count == DEVICES)
        started = await fleet.ask(admin.ROTATION_START, model=model)
        assert started.queued.count == DEVICES
        for package in packages:  # about in the order in which they are queued
            await fleet.seen(package, "rotation/completed")
        entries = [
            entry
            for package in packages
            for entry in (await fleet.ask(admin.ROTATION_HISTORY, device=package.client_id)).rotations
        ]
        entries.sort(key=lambda entry: entry.started_at)
        renewed = [await fleet.ask(admin.DEVICE_PROVISION, device=package.client_id) for package in packages]
    assert [entry.outcome for entry in entries] == ["DONE"] * DEVICES
    for earlier, later in pairwise(entries):
        assert earlier.ended_at is not None
        assert earlier.ended_at <= later.started_at
    for package, now in zip(packages, renewed, strict=True):
        assert now.secret != package.secret
        assert await credentials.broker_accepts(now)
    reports.append(report(entries))


async def test_a_campaign_over_devices_of_which_half_sleep_gives_each_a_new_secret(
    fleet: Fleet, system: System, tmp_path: Path
) -> None:
    """No attempt waits for a device that sleeps: none times out, though the deadline is longer than the test."""
    model, count = await fleet.model(), SLEEPY_DEVICES
    patience_s = 60.0 + 2 * count
    sleeping = ("--sleeping", "50%", "--wake-interval-s", WAKE_INTERVAL_S, "--per-second", 100)
    async with (
        system.altered("rotator", MDM_ROTATION_DEADLINE_S="600"),
        simulating(system, tmp_path, "--devices", count, "--model", model, *sleeping) as simulator,
    ):
        await simulator.until(lambda it: it["configured"] == count, patience_s=patience_s)
        await until(lambda: fleet.ask(admin.DEVICE_LIST, model=model, online=False), lambda page: page.devices)
        began = time.monotonic()
        started = await fleet.ask(admin.ROTATION_START, model=model)
        assert (started.queued.count, started.waiting.count > 0) == (count, True)
        await simulator.until(lambda it: it["rotations"] == count, patience_s=patience_s)
        took_s = time.monotonic() - began
        rows = await run(
            system.stack,
            "SELECT outcome, count(*) FROM mdm.rotations JOIN mdm.devices d ON d.id = device_id "
            "JOIN mdm.device_models m ON m.id = d.model_id WHERE m.code = $1 GROUP BY outcome",
            model,
        )
    outcomes = {row["outcome"]: row["count"] for row in rows}
    assert outcomes.keys() <= {"DONE", "WITHDRAWN"}
    assert outcomes["DONE"] == count
    kind = f"of which half sleep {WAKE_INTERVAL_S} s at a time, one rotation at a time"
    withdrawn = outcomes.get("WITHDRAWN", 0)
    reports.append(
        f"a campaign over {count} devices, {kind}: {took_s:.1f} s, {1000 * took_s / count:.0f} ms a device; "
        f"{withdrawn} withdrawn"
    )
