"""Bare devices that fetch an image as the reference device does, a window of pieces at a time."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from itertools import islice
from uuid import uuid4

import aiomqtt

from dev.credentials import device_client
from shared.protocol import messages, topics
from shared.protocol.admin import Package

PATIENCE_S = 120.0
REPEAT_S = 5.0


def check(project: str, *, version: str = "1.0.0", sha256: str = "1" * 64) -> messages.FirmwareCheck:
    """Return the question of a device that runs another image."""
    return messages.FirmwareCheck(
        request_id=uuid4().hex,
        version=version,
        sha256=sha256,
        chip="esp32",
        project=project,
        slot_size_bytes=1024 * 1024,
    )


class Downloader:
    """A device that is connected and fetches; `fetched_bytes` is how much of the present image it has."""

    def __init__(self, package: Package, client: aiomqtt.Client) -> None:
        self.client_id = package.client_id
        self.client = client
        self.fetched_bytes = 0
        self.asked = 0

    async def offered(self) -> messages.FirmwareOffer:
        """Wait for an offer."""
        async with asyncio.timeout(PATIENCE_S):
            async for message in self.client.messages:
                if topics.FIRMWARE_OFFER.match(str(message.topic)) is not None:
                    assert isinstance(message.payload, bytes)
                    return topics.FIRMWARE_OFFER.decode(message.payload)
        raise AssertionError

    async def fetch(
        self, offer: messages.FirmwareOffer, *, on_piece: Callable[[], object] = lambda: None
    ) -> bytes:
        """Return the image on offer; a piece that does not come is asked for again, as the protocol says."""
        sha256, size_bytes, length = offer.sha256 or "", offer.size_bytes or 0, offer.chunk_size_bytes or 1
        missing = iter(range(0, size_bytes, length))
        pieces: dict[int, bytes] = {}
        under_way: set[int] = set()
        self.fetched_bytes = 0

        async def ask(offset: int) -> None:
            under_way.add(offset)
            self.asked += 1
            request = messages.FirmwareChunkRequest(
                sha256=sha256, offset=offset, length=min(length, size_bytes - offset)
            )
            topic = topics.FIRMWARE_CHUNK
            await self.client.publish(topic.of(client_id=self.client_id), topic.encode(request), qos=1)

        async def ask_again() -> None:
            while True:
                await asyncio.sleep(REPEAT_S)
                for offset in sorted(under_way):
                    await ask(offset)

        repeating = asyncio.create_task(ask_again(), name=self.client_id)
        try:
            for offset in list(islice(missing, offer.window)):
                await ask(offset)
            async with asyncio.timeout(PATIENCE_S):
                async for message in self.client.messages:
                    names = topics.FIRMWARE_CHUNK_DATA.match(str(message.topic))
                    if names is None or int(names["offset"]) not in under_way:
                        continue
                    offset = int(names["offset"])
                    assert isinstance(message.payload, bytes)
                    under_way.discard(offset)
                    pieces[offset] = message.payload
                    self.fetched_bytes += len(message.payload)
                    on_piece()
                    if (following := next(missing, None)) is not None:
                        await ask(following)
                    if not under_way:
                        break
        finally:
            repeating.cancel()
        return b"".join(pieces[offset] for offset in sorted(pieces))


@asynccontextmanager
async def downloaders(packages: Sequence[Package], project: str) -> AsyncIterator[list[Downloader]]:
    """Connect a device for each package, which says that it is online and runs 1.0.0 of a project."""
    status = messages.Status(online=True, firmware_version="1.0.0", firmware_sha256="1" * 64, project=project)
    async with AsyncExitStack() as stack:

        async def connect(package: Package) -> Downloader:
            client = await stack.enter_async_context(device_client(package))
            await client.subscribe(f"{topics.PREFIX}/d/{package.client_id}/down/#", qos=1)
            address = topics.STATUS.of(client_id=package.client_id)
            await client.publish(address, topics.STATUS.encode(status), qos=1, retain=True)
            return Downloader(package, client)

        yield [await connect(package) for package in packages]
