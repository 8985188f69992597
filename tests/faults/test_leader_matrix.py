"""The leader is killed at each step of a rotation, and a standby takes over: no device is locked out.

The steps are those that one run takes, and each is a case: before and after every commit, every request to
Keycloak, every command to the broker and every publication.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from pathlib import Path
from statistics import median

import pytest

from dev.crash_injection import CrashPlan, CrashPoint, deaths
from dev.fleet import Fleet
from dev.servers.base import Process
from dev.system import System
from dev.waiting import PATIENCE_S, logged, until
from device.options import Hooks
from shared.protocol import admin
from tests.faults.promise import all_said, ended, expire, kept
from tests.matrix import Matrix, reports

AFTERWARDS_S = 3
"""For a step that is taken after the deed, such as the last publication."""
LEADS = "rotator.leads"
METRICS = "Rotator.count_states"
"""It comes every few seconds: it may fall into a deed, and is no step of it."""
SETTINGS = {"MDM_ROTATION_DEADLINE_S": "120", "MDM_LEADER_POLL_S": "0.1", "MDM_SWEEP_S": "0.2"}


class Pair:
    """A leader that can be killed at a step, and a standby; who has died comes back as the standby."""

    def __init__(self, system: System, folder: Path) -> None:
        self._system = system
        self._folder = folder
        self._number = 0
        self.failovers_s: list[float] = []

    async def begin(self) -> None:
        """Start the two."""
        self.leader, self.fate = await self._start()
        await self._leads(self.leader)
        self._standby = asyncio.ensure_future(self._start())
        await self._standby

    async def end(self) -> None:
        """Stop both."""
        standby, _ = await self._standby
        for process in (self.leader, standby):
            await asyncio.to_thread(self._system.stop, process.name)

    async def dies(self, death: CrashPoint, deed: Callable[[], Awaitable[object]]) -> bool:
        """Do a deed, and return when the leader has died of it and the standby has done it to its end.

        A step that a leader takes only the first time, its login to Keycloak, is looked for in a fresh one too. A
        repeated step may come no more, as that of a message that a device repeats only if the answer is slow: then
        nobody died, and the result is False.
        """
        if await self._died(death, deed):
            return True
        self.leader.kill()
        await self._succeed()
        came = await self._died(death, deed)
        assert came or death.nth > 1, f"never came to {death}"
        return came

    async def _died(self, death: CrashPoint, deed: Callable[[], Awaitable[object]]) -> bool:
        await self._standby
        await self.all_said()
        self.fate.condemn(death)
        doing = asyncio.ensure_future(deed())
        dying = asyncio.ensure_future(asyncio.to_thread(self.leader.wait))
        await asyncio.wait([doing, dying], timeout=30, return_when=asyncio.FIRST_COMPLETED)
        await asyncio.wait([dying], timeout=AFTERWARDS_S)
        self.fate.pardon()
        if dying.done():
            await self._succeed()
        await doing
        return dying.done()

    async def _succeed(self) -> None:
        """Let the standby lead in place of the dead leader, and start the next standby meanwhile."""
        begun = time.monotonic()
        self._system.services.pop(self.leader.name).kill()
        self.leader, self.fate = await self._standby
        await self._leads(self.leader)
        self.failovers_s.append(time.monotonic() - begun)
        self._standby = asyncio.ensure_future(self._start())

    async def all_said(self) -> None:
        """Wait until nothing is left to be done of what came before: it is no step of a deed."""
        await all_said(self._system.stack)

    def report(self) -> None:
        """Print how long the standbys took."""
        middle, longest = median(self.failovers_s), max(self.failovers_s)
        reports.append(f"from a leader's death to the next one: median {middle:.2f} s, longest {longest:.2f} s")

    async def _start(self) -> tuple[Process, CrashPlan]:
        self._number += 1
        name = f"rotator-{self._number}"
        folder = self._folder / name
        folder.mkdir()
        fate = CrashPlan(folder)
        return await asyncio.to_thread(
            lambda: self._system.start("rotator", name=name, fate=fate, **SETTINGS)
        ), fate

    async def _leads(self, process: Process) -> None:
        await logged(process, LEADS)


@pytest.fixture
async def pair(no_rotations: None, system: System, tmp_path: Path) -> AsyncIterator[Pair]:
    del no_rotations  # their ends would be steps of a deed
    system.stop("rotator")
    running = Pair(system, tmp_path)
    await running.begin()
    yield running
    await running.end()
    await asyncio.to_thread(system.start, "rotator")


async def steps_of(pair: Pair, deed: Callable[[], Awaitable[object]]) -> list[str]:
    """Return the steps that the leader takes while a deed is done."""
    await pair.all_said()
    begun = len(pair.fate.steps())
    await deed()
    return [step for step in pair.fate.steps(begun) if METRICS not in step]


async def idle_steps(pair: Pair) -> set[str]:
    """Return the steps that a leader takes when there is nothing to do."""
    begun = len(pair.fate.steps())
    drained = "commit Outbox._drain_batch:after"
    steps = await until(lambda: asyncio.to_thread(pair.fate.steps, begun), lambda steps: steps.count(drained) >= 3)
    return set(steps)


async def test_a_leader_killed_at_each_step_of_a_rotation_leaves_a_device_that_can_log_in(
    fleet: Fleet, pair: Pair, system: System
) -> None:
    package = await fleet.device()

    async def rotate() -> None:
        await fleet.ask(admin.ROTATION_START, device=package.client_id)
        await ended(fleet, system.stack, package)

    async with fleet.powered(package):
        await fleet.until(package, lambda view: view.online)
        noise = await idle_steps(pair)
        matrix = Matrix("kill -9 of the leader at each step of a rotation")
        for death in deaths(await steps_of(pair, rotate), noise=noise):
            async with matrix.case(death) as case:
                await pair.dies(death, rotate)
                case.outcome = (await kept(fleet, system.stack, package)).rotation_state
    pair.report()
    matrix.end()


async def test_a_leader_killed_at_each_step_of_giving_up_puts_the_old_secret_back(
    fleet: Fleet, pair: Pair, system: System
) -> None:
    package = await fleet.device()

    async def switch() -> None:
        """Bring a rotation to where Keycloak and the broker want the new secret, and the device is gone."""
        async with fleet.powered(package, cut_at="publish.rotation.stored:after") as power:
            await fleet.until(package, lambda view: view.online)
            await fleet.ask(admin.ROTATION_START, device=package.client_id)
            await power.failed()
        await fleet.seen(package, "rotation/switched")
        await all_said(system.stack)

    async def give_up() -> None:
        await expire(system.stack, package)
        await ended(fleet, system.stack, package)

    async def come_back() -> str:
        """Bring the device back until it has discarded the new secret: else the next power cut comes too early."""
        discarded = asyncio.Event()

        def note(event: str, _: Mapping[str, object]) -> None:
            if event == "rotation.discarded":
                discarded.set()

        async with fleet.powered(package, hooks=Hooks(on_event=note)):
            await fleet.until(package, lambda view: view.online)
            state = (await kept(fleet, system.stack, package)).rotation_state
            async with asyncio.timeout(PATIENCE_S):
                await discarded.wait()
        return state

    noise = await idle_steps(pair)
    await switch()
    steps = await steps_of(pair, give_up)
    await come_back()
    matrix = Matrix("kill -9 of the leader at each step of putting the old secret back")
    for death in deaths(steps, noise=noise):
        async with matrix.case(death) as case:
            await switch()
            await pair.dies(death, give_up)
            case.outcome = await come_back()
    pair.report()
    matrix.end()
