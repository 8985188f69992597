"""One image to many devices at once, over MQTT and HTTP, each against a plain copy of the same bytes."""

from __future__ import annotations

import asyncio
import hashlib
import ssl
from collections.abc import Sequence
from contextlib import AsyncExitStack
from dataclasses import dataclass, field
from typing import Any, Final

import aiomqtt
import httpx

from dev import http_helpers
from dev.bench.measure import ResultRow, Run, rss_peak_bytes, timed
from dev.bench.report import Report
from dev.bench.servers import accelerated, nginx_serving
from dev.credentials import account_client, device_client
from dev.fleet import Fleet
from dev.servers.base import HOST
from dev.system import System
from dev.uploads import upload
from device import image_builder
from shared.protocol import messages, topics
from shared.protocol.admin import Package

CHUNK: Final = 16 * 1024
WINDOW: Final = 4
DEVICES: Final = (1, 50)
SIZE_BYTES: Final = 1024 * 1024
ROUNDS: Final = 3
AT_A_TIME: Final = 4
"""Number of devices that are added and logged in concurrently, which is not measured."""


@dataclass(slots=True)
class Receiver:
    """A device's connection, and the data received on it."""

    package: Package
    client: aiomqtt.Client
    sha256: str
    size_bytes: int
    data: bytearray = field(default_factory=bytearray)

    async def take(self, *, asks: bool) -> None:
        """Receive all chunks; either request each, with a window, or only receive them."""
        self.data = bytearray(self.size_bytes)
        offsets = iter(range(0, self.size_bytes, CHUNK))
        if asks:
            for _ in range(WINDOW):
                await self._request(next(offsets, None))
        left = self.size_bytes
        async for message in self.client.messages:
            names = topics.FIRMWARE_CHUNK_DATA.match(str(message.topic))
            if names is None or not isinstance(message.payload, bytes):
                continue
            offset = int(names["offset"])
            self.data[offset : offset + len(message.payload)] = message.payload
            left -= len(message.payload)
            if asks:
                await self._request(next(offsets, None))
            if left == 0:
                break
        check(self.data, self.sha256)

    async def _request(self, offset: int | None) -> None:
        if offset is not None:
            request = messages.FirmwareChunkRequest(
                sha256=self.sha256, offset=offset, length=min(CHUNK, self.size_bytes - offset)
            )
            topic = topics.FIRMWARE_CHUNK
            await self.client.publish(topic.of(client_id=self.package.client_id), topic.encode(request), qos=1)


def check(data: bytes | bytearray, sha256: str) -> None:
    """Raise ValueError unless the complete image was received."""
    if hashlib.sha256(data).hexdigest() != sha256:
        raise ValueError("the received data is not the image")


@dataclass(frozen=True, slots=True)
class Bench:
    """A fleet and the image for it."""

    system: System
    packages: Sequence[Package]
    image: bytes
    sha256: str

    async def mqtt(self) -> Run:
        """The product: each device requests its chunks."""
        await self._restart()
        return await self._received(asks=True)

    async def mqtt_copy(self) -> Run:
        """The baseline: a publisher sends the same messages with QoS 1, as fast as the broker accepts them."""
        return await self._received(asks=False)

    async def http(self) -> Run:
        """The product: each device downloads the image with its token."""
        await self._restart()
        tokens = [await http_helpers.token(package) for package in self.packages]
        url = f"https://{HOST}:{self.system.http_ports['firmware']}/firmware/{self.sha256}"
        seconds = await self._fetched(url, tokens)
        return self._run(seconds, self.system.services["firmware"].pid)

    async def nginx(self) -> Run:
        """The product with nginx in front, which sends the image; its memory is measured."""
        tokens = [await http_helpers.token(package) for package in self.packages]
        async with accelerated(self.system) as (port, server):
            seconds = await self._fetched(f"https://{HOST}:{port}/firmware/{self.sha256}", tokens)
            return self._run(seconds, server.pid)

    async def http_copy(self) -> Run:
        """The baseline: a file served by nginx."""
        folder = self.system.stack.folder / "nginx"
        folder.mkdir(exist_ok=True)
        (folder / "image.bin").write_bytes(self.image)
        async with nginx_serving(self.system, folder) as (port, server):
            url = f"https://{HOST}:{port}/image.bin"
            return self._run(await self._fetched(url, [""] * len(self.packages)), server.pid)

    async def _restart(self) -> None:
        """Restart the service, so that its peak memory is of this run."""
        await asyncio.to_thread(self.system.stop, "firmware")
        await asyncio.to_thread(self.system.start, "firmware")

    async def _received(self, *, asks: bool) -> Run:
        async with AsyncExitStack() as stack:
            receivers = []
            for package in self.packages:
                client = await stack.enter_async_context(device_client(package))
                await client.subscribe(f"{topics.PREFIX}/d/{package.client_id}/down/firmware/chunk/#", qos=1)
                receivers.append(Receiver(package, client, self.sha256, len(self.image)))
            publisher = await stack.enter_async_context(
                account_client(self.system.stack.endpoints, "svc-firmware")
            )
            publisher.pending_calls_threshold = 10_000

            async def all_received() -> None:
                async with asyncio.TaskGroup() as tasks:
                    for receiver in receivers:
                        tasks.create_task(receiver.take(asks=asks))
                        if not asks:
                            tasks.create_task(self._publish(publisher, receiver.package))

            seconds = await timed(all_received)
        return self._run(seconds, self.system.services["firmware"].pid if asks else None)

    async def _publish(self, publisher: aiomqtt.Client, package: Package) -> None:
        for offset in range(0, len(self.image), CHUNK):
            topic = topics.FIRMWARE_CHUNK_DATA.of(client_id=package.client_id, sha256=self.sha256, offset=offset)
            await publisher.publish(topic, self.image[offset : offset + CHUNK], qos=1)

    async def _fetched(self, url: str, tokens: Sequence[str]) -> float:
        trust = ssl.create_default_context(cafile=self.system.stack.endpoints.ca_file)

        async def fetch(token: str) -> None:
            headers = http_helpers.bearer(token) if token else {}
            async with httpx.AsyncClient(verify=trust, timeout=600) as client:
                answer = await client.get(url, headers=headers)
            check(answer.raise_for_status().content, self.sha256)

        async def all_fetched() -> None:
            async with asyncio.TaskGroup() as tasks:
                for token in tokens:
                    tasks.create_task(fetch(token))

        return await timed(all_fetched)

    def _run(self, seconds: float, pid: int | None) -> Run:
        return Run(len(self.image) * len(self.packages), seconds, None if pid is None else rss_peak_bytes(pid))


async def run(system: System, fleet: Fleet) -> Report:
    """Measure one device alone, and many at once."""
    model = await fleet.model(slot_size_bytes=max(SIZE_BYTES, 64 * 1024))
    image = image_builder.build(version="1.1.0", project=model, size_bytes=SIZE_BYTES)
    few = asyncio.Semaphore(AT_A_TIME)

    async def device() -> Package:
        async with few:
            return await fleet.device(model)

    packages = await asyncio.gather(*(device() for _ in range(max(DEVICES))))
    await upload(fleet, model, image)
    rows = []
    for count in DEVICES:
        bench = Bench(system, packages[:count], image, hashlib.sha256(image).hexdigest())
        rows += [{"devices": count, **facts} for facts in await _ways(bench)]
    return Report(f"devices download {SIZE_BYTES} bytes at once", rows)


async def _ways(bench: Bench) -> list[dict[str, Any]]:
    """Measure all ways in turn, in several rounds."""
    ways = {
        ("MQTT", "MQTT copy"): bench.mqtt,
        ("MQTT copy", None): bench.mqtt_copy,
        ("HTTP", "HTTP copy"): bench.http,
        ("HTTP, nginx", "HTTP copy"): bench.nginx,
        ("HTTP copy", None): bench.http_copy,
    }
    runs: dict[tuple[str, str | None], list[Run]] = {way: [] for way in ways}
    for _ in range(ROUNDS):
        for way, measure in ways.items():
            runs[way].append(await measure())
    rows = [ResultRow(name, runs[name, baseline], baseline) for name, baseline in ways]
    return [row.facts(rows) for row in rows]
