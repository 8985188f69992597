"""Devices for tests: added by the real registry, run by the reference agent."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import AbstractAsyncContextManager, asynccontextmanager, suppress
from contextvars import copy_context
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import TypeVar
from uuid import uuid4

from cli.client import Admin
from dev.crash_injection import CrashPoint
from dev.credentials import device_client
from dev.event_recorder import EventRecorder, Named
from dev.waiting import PATIENCE_S
from device import durable
from device.agent import Agent
from device.options import Hooks, Options
from shared.protocol import admin, events, topics
from shared.protocol.admin import DeviceDetails, Operation, Package, Request, Result
from shared.protocol.messages import Event, Status

R = TypeVar("R", bound=Request)
A = TypeVar("A", bound=Result)
OPTIONS = Options(retry_s=0.5, claim_retry_s=0.5, backoff_min_s=0.1, backoff_max_s=0.5, chunk_timeout_s=1)
HOOKS = Hooks()


class PowerCutError(Exception):
    """A device lost its power."""


@dataclass(slots=True)
class Power:
    """The power supply of a running device, and the points that it has reached."""

    steps: list[str]
    task: asyncio.Task[None] = field(init=False)

    async def failed(self) -> None:
        """Wait until the device has reached the point of its power cut."""
        async with asyncio.timeout(PATIENCE_S):
            await asyncio.wait([self.task])


@asynccontextmanager
async def powered(
    package: Package,
    state: Path,
    *,
    options: Options = OPTIONS,
    hooks: Hooks = HOOKS,
    cut_at: CrashPoint | str | None = None,
    steps: list[str] | None = None,
    image: bytes | None = None,
) -> AsyncIterator[Power]:
    """Run a device until the block ends, or until it reaches the point (device.options.Hooks) `cut_at`.

    All points that it reaches are appended to `steps`. An empty flash has `image`.
    """
    cut = CrashPoint(cut_at, 1) if isinstance(cut_at, str) else cut_at
    power = Power([] if steps is None else steps)
    counts: Counter[str] = Counter()

    def fault(point: str) -> None:
        power.steps.append(point)
        counts[point] += 1
        if cut is not None and (point, counts[point]) == (cut.step, cut.nth):
            raise PowerCutError

    agent = Agent(package, state, options=options, hooks=replace(hooks, fault=fault), image=image)
    context = copy_context()
    context.run(lambda: durable.WAITS.set(False))  # the device loses its power, the machine does not
    power.task = asyncio.create_task(agent.run(), name=package.client_id, context=context)
    try:
        yield power
    finally:
        power.task.cancel()
        with suppress(asyncio.CancelledError, PowerCutError):
            await power.task


@dataclass(frozen=True, slots=True)
class Fleet:
    """An admin's connection, and a folder for the devices' flash."""

    admin: Admin
    witness: EventRecorder
    folder: Path

    async def ask(self, operation: Operation[R, A], **fields: object) -> A:
        """Send one new request and return its result."""
        request = operation.request.model_validate({"request_id": uuid4().hex, **fields})
        return await self.admin.call(operation, request, timeout_s=PATIENCE_S)

    async def model(self, **fields: object) -> str:
        """Add a model of a new code and return the code."""
        code = f"m{uuid4().hex[:10]}"
        await self.ask(admin.MODEL_ADD, **{"code": code, "chip": "esp32", **fields})
        return code

    async def device(self, model: str | None = None, *, tags: Sequence[str] = ()) -> Package:
        """Add a device and return its package."""
        added = await self.ask(admin.DEVICE_ADD, model=model or await self.model(), tags=list(tags))
        return await self.ask(admin.DEVICE_PROVISION, device=added.client_id)

    async def present(self, package: Package) -> None:
        """Let a device report that it is online, and leave without a will: as far as anyone knows it is there."""
        async with device_client(package) as client:
            status = topics.STATUS.encode(Status(online=True))
            await client.publish(topics.STATUS.of(client_id=package.client_id), status, qos=1, retain=True)
        await self.until(package, lambda view: view.online)

    async def offered(self, package: Package) -> None:
        """Let a device that does nothing be offered a new secret."""
        await self.present(package)
        await self.ask(admin.ROTATION_START, device=package.client_id)
        await self.seen(package, events.ROTATION_OFFERED)

    async def show(self, package: Package) -> DeviceDetails:
        """Return the registry's view of a device."""
        return await self.ask(admin.DEVICE_SHOW, device=package.client_id)

    def powered(
        self,
        package: Package,
        *,
        options: Options = OPTIONS,
        hooks: Hooks = HOOKS,
        cut_at: CrashPoint | str | None = None,
        steps: list[str] | None = None,
    ) -> AbstractAsyncContextManager[Power]:
        """Run a device until the block ends or its power is cut; its flash is kept."""
        state = self.folder / package.client_id
        return powered(package, state, options=options, hooks=hooks, cut_at=cut_at, steps=steps)

    async def until(self, package: Package, holds: Callable[[DeviceDetails], object]) -> DeviceDetails:
        """Wait until a condition holds for the registry's view of a device."""
        return await self.witness.until(partial(self.show, package), holds)

    async def seen(self, package: Package, event: Named, **data: object) -> Event:
        """Wait for an event of a device."""
        return await self.witness.seen(package.client_id, event, **data)
