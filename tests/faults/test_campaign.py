"""A campaign over many devices: each gets a new secret, one at a time, and the report says where the time goes."""

from __future__ import annotations

import asyncio
from contextlib import AsyncExitStack
from itertools import pairwise
from statistics import median
from typing import Final

from dev import credentials
from dev.campaign import parts
from dev.fleet import Fleet
from dev.system import System
from device.options import Options
from shared.protocol import admin
from shared.protocol.admin import Package, RotationEntry
from tests.matrix import reports

DEVICES: Final = 20
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
