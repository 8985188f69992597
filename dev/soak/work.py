"""Operations of admins on a simulated fleet during the soak test."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, field
from itertools import count

from cli.client import NoAnswerError
from cli.simulate import inventory
from cli.simulate.command import MODEL
from dev.fleet import Fleet
from dev.uploads import upload
from device import image_builder
from shared.protocol import admin

_IMAGE_BYTES = 64 * 1024


@dataclass(frozen=True, slots=True)
class Work:
    """Periodic operations on these devices; `done` counts the answered ones."""

    fleet: Fleet
    client_ids: Sequence[str]
    done: Counter[str] = field(default_factory=Counter)

    async def run(self) -> None:
        """Work until cancelled."""
        async with asyncio.TaskGroup() as tasks:
            for name, pause_s, operation in (
                ("configurations", 0.5, self._configure),
                ("looks", 5, self._list_devices),
                ("rotations of all", 120, self._rotate),
                ("commands to all", 120, self._command),
                ("images", 150, self._release),
            ):
                tasks.create_task(self._repeat(name, pause_s, operation), name=name)

    async def _repeat(self, name: str, pause_s: float, operation: Callable[[int], Awaitable[object]]) -> None:
        for number in count(1):
            try:
                await operation(number)
                self.done[name] += 1
            except NoAnswerError:
                self.done[f"{name}, unanswered"] += 1
            await asyncio.sleep(pause_s)

    async def _configure(self, number: int) -> None:
        device = self.client_ids[number % len(self.client_ids)]
        await self.fleet.ask(admin.CONFIG_SET, device=device, overrides={"level": number})

    async def _list_devices(self, _: int) -> None:
        await self.fleet.ask(admin.FLEET_SHOW)
        await self.fleet.ask(admin.DEVICE_LIST, tag=inventory.TAG)
        await self.fleet.ask(admin.ROTATION_STATUS)

    async def _rotate(self, _: int) -> None:
        await self.fleet.ask(admin.ROTATION_START, tag=inventory.TAG)

    async def _command(self, _: int) -> None:
        await self.fleet.ask(admin.COMMAND_SEND, name="identify", tag=inventory.TAG)

    async def _release(self, number: int) -> None:
        image = image_builder.build(version=f"1.{number}.0", project=MODEL, size_bytes=_IMAGE_BYTES)
        await upload(self.fleet, MODEL, image)
