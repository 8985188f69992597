"""kill -9 and restart of each process while admins change things: what was acknowledged is there afterwards."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from itertools import count
from typing import Final

import pytest

from cli.client import AnswerError, NoAnswerError
from dev import credentials
from dev.fleet import Fleet
from dev.servers.base import Server
from dev.system import System
from dev.uploads import upload, versions
from device import image_builder
from shared.protocol import admin
from shared.protocol.admin import Package

PROCESSES: Final = ("registry", "rotator", "firmware", "broker", "postgres", "keycloak")
ENOUGH: Final = 3
"""So many changes of each kind are acknowledged before a kill, and again after it."""
PAUSE_S: Final = 0.4
"""Between two changes of a kind, as each is looked for afterwards; a rotation, the slowest, takes as long."""
PATIENCE_S: Final = 120

Look = Callable[[], Awaitable[bool]]
"""Says whether a change is there."""
Change = Callable[[int], Awaitable[Look]]
"""Makes the change of this number, and returns when it is acknowledged."""


@dataclass(slots=True)
class Load:
    """Changes that are made side by side, again and again; the looks at those that were acknowledged are kept."""

    looks: list[tuple[str, Look]] = field(default_factory=list)
    _acknowledged: Counter[str] = field(default_factory=Counter)
    _news: asyncio.Condition = field(default_factory=asyncio.Condition)

    @asynccontextmanager
    async def running(self, changes: Mapping[str, Change]) -> AsyncIterator[None]:
        """Make changes until the block ends."""
        async with asyncio.TaskGroup() as tasks:
            working = [tasks.create_task(self._keep_at(*change), name=change[0]) for change in changes.items()]
            yield
            for work in working:
                work.cancel()

    async def acknowledged(self, more: int, changes: Mapping[str, Change]) -> None:
        """Wait until so many more changes of each kind are acknowledged."""
        wanted = {kind: self._acknowledged[kind] + more for kind in changes}
        async with asyncio.timeout(PATIENCE_S), self._news:
            await self._news.wait_for(lambda: all(self._acknowledged[kind] >= wanted[kind] for kind in wanted))

    async def lost(self) -> list[str]:
        """Return the names of all changes that were acknowledged and are not there."""
        found = await asyncio.gather(*(look() for _, look in self.looks))
        return [name for (name, _), is_there in zip(self.looks, found, strict=True) if not is_there]

    async def _keep_at(self, kind: str, change: Change) -> None:
        for number in count(1):
            await asyncio.sleep(PAUSE_S)
            try:
                look = await change(number)
            except NoAnswerError:
                continue
            except AnswerError as error:
                if error.answer_code != "unavailable":
                    raise
                continue
            async with self._news:
                self.looks.append((f"{kind} {number}", look))
                self._acknowledged[kind] += 1
                self._news.notify_all()


@dataclass(frozen=True, slots=True)
class Desk:
    """An admin with one change for each kind of thing that can be changed, of each service."""

    fleet: Fleet
    model: str
    steady: Package
    rotating: Package

    @property
    def changes(self) -> dict[str, Change]:
        return {
            "configuration": self.configure,
            "device": self.add,
            "layer": self.share,
            "image": self.store,
            "rotation": self.rotate,
        }

    async def configure(self, number: int) -> Look:
        device = self.steady.client_id
        await self.fleet.ask(admin.CONFIG_SET, device=device, overrides={"level": number})

        async def is_there() -> bool:
            return bool((await self.fleet.ask(admin.CONFIG_GET, device=device)).document["level"] >= number)

        return is_there

    async def add(self, number: int) -> Look:
        added = await self.fleet.ask(admin.DEVICE_ADD, model=self.model, name=f"device {number}")

        async def is_there() -> bool:
            package = await self.fleet.ask(admin.DEVICE_PROVISION, device=added.client_id)
            return await credentials.keycloak_accepts(package) and await credentials.broker_accepts(package)

        return is_there

    async def share(self, number: int) -> Look:
        tag = f"{self.model}-{number}"
        await self.fleet.ask(admin.LAYER_SET, tag=tag, document={"level": number})

        async def is_there() -> bool:
            return (await self.fleet.ask(admin.LAYER_SHOW, tag=tag)).document == {"level": number}

        return is_there

    async def store(self, number: int) -> Look:
        image = image_builder.build(version=f"2.0.{number}", project=self.model)
        await upload(self.fleet, self.model, image, release=False)

        async def is_there() -> bool:
            # Only the newest are kept.
            return int((await versions(self.fleet, self.model))[0].rpartition(".")[2]) >= number

        return is_there

    async def rotate(self, _: int) -> Look:
        before = (await self.fleet.show(self.rotating)).secret_generation
        await self.fleet.ask(admin.ROTATION_START, device=self.rotating.client_id)
        await self.fleet.until(self.rotating, lambda view: view.rotation_state == "OK")

        async def is_there() -> bool:
            return (await self.fleet.show(self.rotating)).secret_generation > before

        return is_there


def victim(system: System, name: str) -> Server:
    stack = system.stack
    servers = {"broker": stack.broker, "postgres": stack.postgres, "keycloak": stack.keycloak}
    return servers.get(name) or system.services[name]


@pytest.mark.parametrize("process", PROCESSES)
async def test_no_acknowledged_change_is_lost_when_a_process_is_killed(
    fleet: Fleet, system: System, process: str
) -> None:
    model = await fleet.model()
    steady, rotating = await fleet.device(model), await fleet.device(model)
    load, work = Load(), Desk(fleet, model, steady, rotating).changes
    async with system.altered("rotator", MDM_ROTATION_DEADLINE_S="60"):
        async with fleet.powered(steady), fleet.powered(rotating):
            async with load.running(work):
                await load.acknowledged(ENOUGH, work)
                server = victim(system, process)
                await asyncio.to_thread(server.kill)
                await asyncio.to_thread(server.start)
                await load.acknowledged(ENOUGH, work)
            await fleet.until(rotating, lambda view: view.rotation_state == "OK")
        assert await load.lost() == []
        renewed = await fleet.ask(admin.DEVICE_PROVISION, device=rotating.client_id)
        assert await credentials.keycloak_accepts(renewed)
        assert await credentials.broker_accepts(renewed)
