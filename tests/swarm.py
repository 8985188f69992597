"""Many light devices that take an image, or do not, as a test has it, for rollouts."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field
from typing import Final, Literal

from dev.fleet import Fleet
from shared.protocol import admin, messages, topics
from shared.protocol.admin import Package
from shared.protocol.messages import FirmwareStage
from tests.downloads import check
from tests.raw import RawDevice

CrashPlan = Literal["confirms", "fails", "rolls back", "comes back", "goes silent", "is deaf"]
OLD: Final = "1" * 64
SLOT_BYTES: Final = 1024 * 1024
_AT_A_TIME: Final = 10
_CONNECTS: Final = 10
_BOOT_S: Final = 1.0


def status(model: str, sha256: str = OLD, **facts: object) -> messages.Status:
    """What a device says of itself when it connects."""
    usual: dict[str, object] = {
        "online": True,
        "firmware_version": "1.0.0",
        "firmware_sha256": sha256,
        "chip": "esp32",
        "project": model,
        "slot_size_bytes": SLOT_BYTES,
    }
    return messages.Status.model_validate({**usual, **facts})


async def packages(fleet: Fleet, model: str, count: int, **fields: object) -> list[Package]:
    """Add devices of a model, several at a time."""
    free = asyncio.Semaphore(_AT_A_TIME)

    async def add() -> Package:
        async with free:
            added = await fleet.ask(admin.DEVICE_ADD, model=model, **fields)
            return await fleet.ask(admin.DEVICE_PROVISION, device=added.client_id)

    return list(await asyncio.gather(*(add() for _ in range(count))))


@dataclass(slots=True)
class Swarm:
    """Devices that are online; from `go` on each does what its fate says with whatever it is offered."""

    model: str
    fates: dict[str, CrashPlan] = field(default_factory=dict)
    offers: Counter[str] = field(default_factory=Counter)
    done: set[str] = field(default_factory=set)
    go: asyncio.Event = field(default_factory=asyncio.Event)
    devices: dict[str, RawDevice] = field(default_factory=dict)

    async def _live(self, device: RawDevice) -> None:
        await device.send(topics.STATUS, status(self.model))
        while True:
            offer = await device.wait(topics.FIRMWARE_OFFER)
            if offer.request_id is not None:
                continue  # the answer to a check
            self.offers[device.client_id] += 1
            await self.go.wait()
            if offer.sha256 is not None:
                await self._take(device, offer.sha256, self.fates.get(device.client_id, "confirms"))
                self.done.add(device.client_id)

    async def _take(self, device: RawDevice, sha256: str, fate: CrashPlan) -> None:
        async def report(stage: FirmwareStage, error: str | None = None) -> None:
            await device.send(
                topics.FIRMWARE_REPORT, messages.FirmwareReport(sha256=sha256, stage=stage, error=error)
            )

        if fate == "is deaf":
            return
        await report(FirmwareStage.DOWNLOADING)
        if fate == "goes silent":
            return
        if fate == "fails":
            await report(FirmwareStage.FAILED, "the flash is worn out")
            return
        await report(FirmwareStage.REBOOTING)
        if fate == "comes back":
            # Of two services one may see the check before the other has stored the report: the next one tells it.
            for _ in range(_CONNECTS):
                await device.send(topics.STATUS, status(self.model))
                await device.send(topics.FIRMWARE_CHECK, check(self.model, sha256=OLD))
                await asyncio.sleep(_BOOT_S)
            return
        if fate == "rolls back":
            await report(FirmwareStage.ROLLED_BACK, "the self-test failed")
            return
        await device.send(topics.STATUS, status(self.model, sha256))
        for _ in range(2):
            await report(FirmwareStage.CONFIRMED)


@asynccontextmanager
async def swarming(
    model: str, wanted: Sequence[Package], fates: Mapping[str, CrashPlan] | None = None
) -> AsyncIterator[Swarm]:
    """Let these devices be online until the block ends."""
    swarm = Swarm(model, dict(fates or {}))
    async with AsyncExitStack() as stack:
        for package in wanted:
            swarm.devices[package.client_id] = await stack.enter_async_context(RawDevice(package))
        lives = [asyncio.create_task(swarm._live(device)) for device in swarm.devices.values()]
        try:
            yield swarm
        finally:
            for life in lives:
                life.cancel()
            await asyncio.gather(*lives, return_exceptions=True)
