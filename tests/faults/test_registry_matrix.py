"""The registry is killed at each step of making and of removing a device: nothing is left half done.

The steps are those that one run takes, and each is a case. After a restart and one reconciliation, database,
Keycloak and broker agree, and the same request given once more ends what it began.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import suppress
from pathlib import Path
from uuid import uuid4

import pytest

from cli.client import AnswerError, NoAnswerError
from dev import credentials
from dev.crash_injection import CrashPlan, CrashPoint, deaths
from dev.database import run
from dev.fleet import Fleet
from dev.system import System
from dev.waiting import logged, until
from shared.protocol import admin, topics
from tests.faults.promise import all_said
from tests.integration.test_registry import traces
from tests.matrix import Matrix
from tests.raw import RawDevice

RECONCILED = "registry.reconciled"
WHOLE = ("ACTIVE",)
HOUSE = (
    "commit forget",
    "commit Identities.end_unfinished",
    "commit BrokerWatch",
    "commit renew",
    "commit FlawRecorder",
    "commit SettingsRecorder",
    "commit CredentialService.verify_due",
    "commit HealthWatch",
    "commit NotificationWatch",
)
"""Steps of housekeeping, which may run during an operation and are not part of it."""


class Registry:
    """A registry that can be killed at a step, and the one that takes its place."""

    def __init__(self, system: System, fate: CrashPlan) -> None:
        self.system = system
        self.fate = fate

    async def start(self) -> None:
        """Start it, and return when it has reconciled."""
        process = await asyncio.to_thread(lambda: self.system.start("registry", fate=self.fate))
        await logged(process, RECONCILED)

    async def dies(self, death: CrashPoint, deed: Awaitable[object]) -> None:
        """Do a deed, and return when the registry has died of it."""
        await all_said(self.system.stack)
        self.fate.condemn(death)
        doing = asyncio.ensure_future(deed)
        try:
            async with asyncio.timeout(30):
                await asyncio.to_thread(self.system.services["registry"].wait)
        finally:
            self.fate.pardon()
            doing.cancel()
            with suppress(asyncio.CancelledError, AnswerError, NoAnswerError):
                await doing
        await self.start()


@pytest.fixture
async def registry(system: System, tmp_path: Path) -> AsyncIterator[Registry]:
    system.stop("registry")
    mortal = Registry(system, CrashPlan(tmp_path))
    await mortal.start()
    yield mortal
    await system.restart("registry")


async def steps_of(registry: Registry, deed: Callable[[], Awaitable[object]], last: str) -> list[CrashPoint]:
    """Return a death for each step of a deed, up to the one that ends it."""
    # What came before may not be taken for a step of the deed, nor the comparison of other tests' devices.
    await run(registry.system.stack, "UPDATE mdm.devices SET verify_at = NULL")
    await all_said(registry.system.stack)
    begun = len(registry.fate.steps())
    await deed()
    steps = await until(lambda: asyncio.to_thread(registry.fate.steps, begun), lambda steps: last in steps)
    return deaths(step for step in steps if not any(name in step for name in HOUSE))


async def agree(fleet: Fleet, registry: Registry, model: str) -> str:
    """Return what there is of a model's one device: nothing or a whole one; anything else is a failure."""
    clients, accounts, rows = await traces(registry.system.stack, model)
    found = await fleet.ask(admin.DOCTOR)
    ours = [finding for finding in found.findings if f"-{model}-" in finding.subject]
    assert not ours, ours
    assert clients == accounts, (clients, accounts)
    assert tuple(rows) in ((), WHOLE), rows
    assert len(clients) == len(rows), (clients, rows)
    return "whole" if rows else "nothing"


async def test_a_registry_killed_at_each_step_of_adding_a_device_leaves_nothing_half_done(
    fleet: Fleet, registry: Registry
) -> None:
    async def add(model: str) -> object:
        return await fleet.ask(admin.DEVICE_ADD, model=model)

    first = await fleet.model()
    matrix = Matrix("kill -9 of the registry while it adds a device")
    for death in await steps_of(registry, lambda: add(first), "publish events/device/added:after"):
        async with matrix.case(death) as case:
            model = await fleet.model()
            request = admin.DeviceAdd(request_id=uuid4().hex, model=model)
            await registry.dies(death, fleet.admin.call(admin.DEVICE_ADD, request, timeout_s=60))
            case.outcome = await agree(fleet, registry, model)
            added = await fleet.admin.call(admin.DEVICE_ADD, request, timeout_s=60)
            assert await agree(fleet, registry, model) == "whole"
            package = await fleet.ask(admin.DEVICE_PROVISION, device=added.client_id)
            assert await credentials.keycloak_accepts(package)
            assert await credentials.broker_accepts(package)
    matrix.end()


async def test_a_registry_killed_at_each_step_of_removing_a_device_leaves_nothing_half_done(
    fleet: Fleet, registry: Registry
) -> None:
    async def device_that_left_something(model: str) -> str:
        package = await fleet.device(model)
        async with RawDevice(package) as device:
            await device.client.publish(topics.STATUS.of(client_id=package.client_id), b"{}", qos=1, retain=True)
        return package.client_id

    first = await device_that_left_something(await fleet.model())
    matrix = Matrix("kill -9 of the registry while it removes a device")
    steps = await steps_of(
        registry, lambda: fleet.ask(admin.DEVICE_REMOVE, device=first), "publish events/device/removed:after"
    )
    for death in steps:
        async with matrix.case(death) as case:
            model = await fleet.model()
            client_id = await device_that_left_something(model)
            request = admin.DeviceRef(request_id=uuid4().hex, device=client_id)
            await registry.dies(death, fleet.admin.call(admin.DEVICE_REMOVE, request, timeout_s=60))
            case.outcome = await agree(fleet, registry, model)
            with suppress(AnswerError):  # there is no such device: it is gone already
                await fleet.admin.call(admin.DEVICE_REMOVE, request, timeout_s=60)
            assert await agree(fleet, registry, model) == "nothing"
    matrix.end()
