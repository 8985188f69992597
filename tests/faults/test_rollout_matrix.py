"""The firmware service is killed at each step of a rollout: it goes on where it was, and does nothing twice.

The steps are those that one run takes, and each is a case.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from functools import partial
from pathlib import Path
from typing import Final

import pytest

from dev.crash_injection import CrashPlan, CrashPoint, deaths
from dev.database import run
from dev.fleet import Fleet
from dev.stack import Stack
from dev.system import System
from dev.waiting import until
from shared.protocol import admin
from tests.integration.test_rollouts import AT_ONCE, fit, stored
from tests.matrix import Matrix
from tests.swarm import Swarm, packages, swarming

SWEEPS: Final = (1, 2, 4)
"""At which looks at the rollout the service dies: there are many, and most change nothing."""
TOLD: Final = ("rollout/wave_opened", "down/firmware/offer", "Reports._store", "RpcServer._once")
ENDED: Final = """
    SELECT count(*) AS devices, count(*) FILTER (WHERE state = 'CONFIRMED' AND wave > 0) AS confirmed,
        (SELECT count(*) FROM mdm.audit_log WHERE subject = 'rollout/' || $1::bigint) AS entries
    FROM mdm.rollout_devices WHERE rollout_id = $1::bigint
"""
EXPIRE: Final = """
    UPDATE mdm.rollout_devices r SET changed_at = now() - interval '1 day'
    FROM mdm.devices d, mdm.device_presence p, mdm.rollouts o
    WHERE r.rollout_id = $1 AND o.id = r.rollout_id AND d.id = r.device_id AND d.key = ANY($2::text[])
        AND p.device_id = d.id AND p.firmware_sha256 = o.sha256 AND r.state IN ('OFFERED', 'TAKEN')
"""
"""Lets the patience with devices be over that have done all, and whose reports may have died with the service."""
ENTRIES: Final = 6
"""Started, two waves opened, two met, completed: each once."""


class Service:
    """A firmware service that can be killed at a step, and the one that takes its place."""

    def __init__(self, system: System, fate: CrashPlan) -> None:
        self.system = system
        self.fate = fate

    async def start(self) -> None:
        await asyncio.to_thread(partial(self.system.start, "firmware", fate=self.fate, MDM_ROLLOUT_SWEEP_S="0.1"))

    async def replaced(self) -> None:
        """Wait until the service has died, and start another."""
        await asyncio.to_thread(self.system.services["firmware"].wait)
        self.fate.pardon()
        await self.start()


@pytest.fixture
async def service(system: System, tmp_path: Path) -> AsyncIterator[Service]:
    await asyncio.to_thread(system.stop, "firmware")
    mortal = Service(system, CrashPlan(tmp_path))
    await mortal.start()
    yield mortal
    await system.restart("firmware")


async def roll_out(fleet: Fleet, stack: Stack, model: str, swarm: Swarm) -> int:
    """Bring an image to all devices of a model in two waves."""
    await stored(fleet, model)
    await fit(fleet, model, len(swarm.devices))
    swarm.go.set()
    plan = {**AT_ONCE, "waves": ["1", "100%"]}
    rollout = (await fleet.ask(admin.ROLLOUT_START, model=model, version="1.1.0", plan=plan)).rollout

    async def completed() -> bool:
        await run(stack, EXPIRE, rollout, [client_id[-8:] for client_id in swarm.done])
        return (await fleet.ask(admin.ROLLOUT_STATUS, rollout=rollout)).state == "COMPLETED"

    await until(completed)
    return rollout


async def steps_of(fleet: Fleet, service: Service, stack: Stack) -> list[CrashPoint]:
    """Return a death for each step of a rollout."""
    model = await fleet.model()
    known = len(service.fate.steps())
    async with swarming(model, await packages(fleet, model, 2)) as swarm:
        await roll_out(fleet, stack, model, swarm)
    told = [step for step in service.fate.steps(known) if any(word in step for word in TOLD)]
    sweeps = [f"commit RolloutExecutor._advance:{moment}" for moment in ("before", "after")]
    return [*deaths(told, noise=told), *(CrashPoint(step, nth) for step in sweeps for nth in SWEEPS)]


async def test_a_firmware_service_killed_at_each_step_of_a_rollout_loses_nothing(
    fleet: Fleet, service: Service, stack: Stack
) -> None:
    matrix = Matrix("kill -9 of the firmware service in a rollout")
    for death in await steps_of(fleet, service, stack):
        model = await fleet.model()
        wanted = await packages(fleet, model, 2)
        async with matrix.case(death) as case, swarming(model, wanted) as swarm:
            replaced = asyncio.create_task(service.replaced())
            service.fate.condemn(death)
            try:
                rollout = await roll_out(fleet, stack, model, swarm)
            finally:
                async with asyncio.timeout(60):
                    await replaced
            case.outcome = "killed"
            [ended] = await run(stack, ENDED, rollout)
            assert (ended["devices"], ended["confirmed"], ended["entries"]) == (2, 2, ENTRIES)
            # As every message of the outbox an offer may be said again after a death, but it is not made again.
            assert all(count <= 2 for count in swarm.offers.values()), swarm.offers
    matrix.end()
