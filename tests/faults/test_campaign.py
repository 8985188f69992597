"""A campaign over many devices: each gets a new secret, one at a time, and the report says where the time goes."""

from __future__ import annotations

import asyncio
from contextlib import AsyncExitStack
from itertools import pairwise
from statistics import mean, median
from typing import Final

from device.options import Options
from shared import admin
from shared.admin import Package, RotationEntry
from tests import credentials
from tests.fleet import Fleet
from tests.matrix import reports
from tests.system import System

DEVICES: Final = 200
AT_ONCE: Final = 8


async def made(fleet: Fleet, model: str) -> list[Package]:
    """Make all devices, some at a time."""
    turn = asyncio.Semaphore(AT_ONCE)

    async def one() -> Package:
        async with turn:
            return await fleet.device(model)

    return list(await asyncio.gather(*(one() for _ in range(DEVICES))))


def report(entries: list[RotationEntry]) -> str:
    """Say how long a device takes, and in which parts."""
    parts: dict[str, list[float]] = {
        "offered to delivered": [],
        "to stored (the device)": [],
        "to switched (Keycloak and the broker)": [],
        "to done (the device logs in)": [],
    }
    for entry in entries:
        assert entry.delivered_at is not None
        assert entry.stored_at is not None
        assert entry.switched_at is not None
        assert entry.ended_at is not None
        moments = (entry.started_at, entry.delivered_at, entry.stored_at, entry.switched_at, entry.ended_at)
        for part, (earlier, later) in zip(parts.values(), pairwise(moments), strict=True):
            part.append((later - earlier).total_seconds())
    took = [entry.duration_s or 0.0 for entry in entries]
    between = [
        (later.started_at - earlier.ended_at).total_seconds()
        for earlier, later in pairwise(entries)
        if earlier.ended_at
    ]
    lines = [f"  {name:<40} {mean(part):6.3f} s" for name, part in parts.items()]
    lines.append(f"  {'to the next device':<40} {mean(between):6.3f} s")
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
