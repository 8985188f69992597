"""Two of a service share its work, and one of them is killed under load: devices ask again, and all is done.

The broker gives each message of a shared subscription (`$share`) to one member. What a member had got and not done
is lost with it: Mosquitto drops what is queued for a session that ends, and gives nothing of it to the others.
"""

from __future__ import annotations

import asyncio
import hashlib
from collections import Counter
from collections.abc import AsyncIterator, Callable, Coroutine
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field
from functools import partial
from itertools import count, cycle
from typing import Any, Final

from dev.database import run
from dev.fleet import Fleet
from dev.system import System
from dev.uploads import build, upload
from dev.waiting import until
from shared.protocol import admin, messages, topics
from shared.protocol.admin import DeviceView, Package
from shared.protocol.topics import Topic
from tests.downloads import Downloader, downloaders
from tests.integration.test_firmware import CHUNK
from tests.raw import RESEND_S, RawDevice
from tests.swarm import packages as made

Deed = Callable[[int], Coroutine[Any, Any, None]]
"""Is done with its number, from 1."""
SECOND: Final = {"registry": "registry-2", "firmware": "firmware-2"}
SHARED: Final[dict[str, Topic[Any]]] = {"registry": topics.CONFIG_GET, "firmware": topics.FIRMWARE_CHUNK}
DEVICES: Final = 8
"""Of each kind: those that ask for configurations, and those that fetch an image."""
PIECES: Final = 12
ENOUGH: Final = 5
"""So much of each kind is done by each device between two events."""
PATIENCE_S: Final = 120.0


@dataclass(slots=True)
class Load:
    """What devices and an admin do side by side until `ending`; each then completes what it has begun."""

    done: Counter[str] = field(default_factory=Counter)
    ending: asyncio.Event = field(default_factory=asyncio.Event)
    _news: asyncio.Condition = field(default_factory=asyncio.Condition)

    async def keep_at(self, name: str, deed: Deed) -> None:
        """Do a deed again and again."""
        for number in count(1):
            await deed(number)
            async with self._news:
                self.done[name] += 1
                self._news.notify_all()
            if self.ending.is_set():
                return

    async def goes_on(self) -> None:
        """Wait until everybody has done ENOUGH more."""
        wanted = {name: done + ENOUGH for name, done in self.done.items()}
        async with asyncio.timeout(PATIENCE_S), self._news:
            await self._news.wait_for(lambda: all(self.done[name] >= wanted[name] for name in wanted))


async def asks(device: RawDevice, number: int) -> None:
    """Say something new, ask for the configuration until this very question is answered."""
    await device.send(topics.STATUS, messages.Status(online=True, firmware_version=f"1.0.{number}"))
    question = messages.ConfigGet(request_id=f"r{number}")

    async def answered() -> None:
        while (await device.wait(topics.CONFIG)).request_id != question.request_id:
            pass

    receiving = asyncio.create_task(answered(), name=f"{device.client_id} {number}")
    while not receiving.done():
        await device.send(topics.CONFIG_GET, question)
        await asyncio.wait([receiving], timeout=RESEND_S)
    await asyncio.sleep(0.1)  # within the rate that a service takes of a device


async def fetches(device: Downloader, offer: messages.FirmwareOffer, _: int) -> None:
    assert hashlib.sha256(await device.fetch(offer)).hexdigest() == offer.sha256


def runs(version: str, view: DeviceView) -> bool:
    return view.firmware_version == version


@asynccontextmanager
async def replicas(system: System) -> AsyncIterator[None]:
    """Run a second one of each until the block ends, whatever becomes of them in it."""
    for service, name in SECOND.items():
        await asyncio.to_thread(system.start, service, name=name)
    try:
        yield
    finally:
        for name in SECOND.values():
            await asyncio.to_thread(system.services.pop(name).kill)


async def both_answer(system: System) -> None:
    """Wait until each of the four has taken more messages of devices than it has now."""
    for service, topic in SHARED.items():
        for name in (service, SECOND[service]):
            before = (await asyncio.to_thread(system.counted, name, topic.template))["handled"]
            await system.takes(name, topic.template, "handled", beyond=before)


async def versions(system: System, package: Package) -> list[int]:
    """Return the numbers that a device's changes were stored with, in the order of their versions."""
    rows = await run(
        system.stack,
        "SELECT overrides->'number' AS number FROM mdm.device_configs c JOIN mdm.devices d ON d.id = c.device_id "
        "WHERE d.key = $1 AND overrides ? 'number' ORDER BY c.version",
        package.device_key,
    )
    return [int(row["number"]) for row in rows]


async def test_no_answer_and_no_transfer_is_lost_with_a_replica_and_nothing_is_stored_twice(
    fleet: Fleet, system: System
) -> None:
    model = await fleet.model()
    asking, fetching = await made(fleet, model, DEVICES), await made(fleet, model, DEVICES)
    image = await upload(fleet, model, build(model, "2.0.0", size_bytes=PIECES * CHUNK))
    offer = messages.FirmwareOffer(
        sha256=image.sha256, size_bytes=image.size_bytes, version=image.version, chunk_size_bytes=CHUNK, window=4
    )
    load, changed = Load(), cycle(asking)
    stored: dict[str, list[int]] = {package.client_id: [] for package in asking}

    async def configure(number: int) -> None:
        device = next(changed).client_id
        await fleet.ask(admin.CONFIG_SET, device=device, overrides={"number": number})
        stored[device].append(number)

    async with AsyncExitStack() as stack:
        await stack.enter_async_context(replicas(system))
        askers = [await stack.enter_async_context(RawDevice(package)) for package in asking]
        fetchers = await stack.enter_async_context(downloaders(fetching, model))
        deeds: dict[str, Deed] = {
            "admin": configure,
            **{it.client_id: partial(asks, it) for it in askers},
            **{it.client_id: partial(fetches, it, offer) for it in fetchers},
        }
        async with asyncio.TaskGroup() as tasks:
            for name, deed in deeds.items():
                load.done[name] = 0
                tasks.create_task(load.keep_at(name, deed), name=name)
            await both_answer(system)

            for name in SECOND.values():
                await asyncio.to_thread(system.services[name].kill)
            await load.goes_on()

            for service, name in SECOND.items():
                await asyncio.to_thread(system.start, service, name=name)
            await both_answer(system)
            await load.goes_on()
            load.ending.set()

        # Before the second ones are killed once more: a status that only such a one has is lost with it.
        for package in asking:
            said = f"1.0.{load.done[package.client_id]}"
            assert (await until(partial(fleet.show, package), partial(runs, said))).online

    for package in asking:
        assert await versions(system, package) == stored[package.client_id]
