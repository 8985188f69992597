"""The reference device fetches over HTTPS, resumes with Range, and is never left without its image."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, closing, suppress
from dataclasses import replace

import pytest

from dev.fleet import OPTIONS, Fleet
from dev.http_helpers import served
from dev.servers.base import HOST, free_port
from dev.system import System
from dev.uploads import upload
from device import image_builder
from shared.protocol.admin import Package

CHUNK = 16 * 1024
SIZE = 40 * CHUNK + 16
OVER_HTTP = replace(OPTIONS, prefer_http=True)
OVER_MQTT = "publish.firmware.chunk:before"


async def offered(fleet: Fleet) -> Package:
    """A device whose model has a new image."""
    model = await fleet.model()
    package = await fleet.device(model)
    await upload(fleet, model, image_builder.build(version="1.1.0", project=model, size_bytes=SIZE))
    return package


async def test_an_image_is_fetched_over_https_verified_booted_and_confirmed(fleet: Fleet, system: System) -> None:
    package = await offered(fleet)
    steps: list[str] = []
    async with fleet.powered(package, options=OVER_HTTP, steps=steps):
        await fleet.seen(package, "firmware/reported", stage="confirmed")
        await fleet.until(package, lambda view: view.firmware_version == "1.1.0")
    assert OVER_MQTT not in steps
    [line] = await served(system, package, least=1)
    assert (line["status"], line["bytes"], line["range"]) == (200, SIZE, None)


async def test_a_device_that_does_not_prefer_http_ignores_the_url(fleet: Fleet, system: System) -> None:
    package = await offered(fleet)
    async with fleet.powered(package):
        await fleet.until(package, lambda view: view.firmware_version == "1.1.0")
    assert not await served(system, package, least=0)


async def test_a_device_that_loses_power_in_a_download_fetches_only_the_rest(fleet: Fleet, system: System) -> None:
    package = await offered(fleet)
    async with fleet.powered(package, options=OVER_HTTP, cut_at="download.save:after") as power:
        await power.failed()
    steps: list[str] = []
    async with fleet.powered(package, options=OVER_HTTP, steps=steps):
        await fleet.until(package, lambda view: view.firmware_version == "1.1.0")
    assert OVER_MQTT not in steps
    line = (await served(system, package, least=2))[-1]
    start = int(line["range"].removeprefix("bytes=").removesuffix("-"))
    assert (line["status"], line["bytes"]) == (206, SIZE - start)
    assert start > 0


@pytest.mark.parametrize("fault", ["nobody listens", "not found", "no certificate"])
async def test_when_http_fails_the_image_comes_in_chunks(fleet: Fleet, system: System, fault: str) -> None:
    port = system.http_ports["firmware"]
    urls = {
        "nobody listens": f"https://{HOST}:{free_port()}",
        "not found": f"https://{HOST}:{port}/elsewhere",
        "no certificate": f"https://localhost.localdomain:{port}",
    }
    steps: list[str] = []
    async with system.altered("firmware", MDM_HTTP_URL=urls[fault]):
        package = await offered(fleet)
        async with fleet.powered(package, options=OVER_HTTP, steps=steps):
            await fleet.until(package, lambda view: view.firmware_version == "1.1.0")
    assert OVER_MQTT in steps


@asynccontextmanager
async def frail(port: int, *, after_bytes: int) -> AsyncIterator[int]:
    """Lead to a port, and break each connection once so many bytes have come from there; yield the own port."""

    async def up(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while data := await reader.read(CHUNK):
            writer.write(data)

    leading: set[asyncio.Task[None] | None] = set()

    async def lead(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        leading.add(asyncio.current_task())
        with closing(writer), suppress(ConnectionError):
            far_reader, far_writer = await asyncio.open_connection(HOST, port)
            with closing(far_writer):
                going_up = asyncio.create_task(up(reader, far_writer))
                left = after_bytes
                while left > 0 and (data := await far_reader.read(min(left, CHUNK))):
                    writer.write(data)
                    await writer.drain()
                    left -= len(data)
                going_up.cancel()

    server = await asyncio.start_server(lead, HOST, 0)
    try:
        yield server.sockets[0].getsockname()[1]
    finally:
        server.close()
        for task in filter(None, leading):
            task.cancel()
            await asyncio.wait([task])


async def test_a_connection_that_breaks_again_and_again_is_followed_by_requests_for_the_rest(
    fleet: Fleet, system: System
) -> None:
    steps: list[str] = []
    async with (
        frail(system.http_ports["firmware"], after_bytes=12 * CHUNK) as port,
        system.altered("firmware", MDM_HTTP_URL=f"https://{HOST}:{port}"),
    ):
        package = await offered(fleet)
        async with fleet.powered(package, options=OVER_HTTP, steps=steps):
            await fleet.until(package, lambda view: view.firmware_version == "1.1.0")
        lines = await served(system, package, least=3)
    assert OVER_MQTT not in steps
    assert {line["status"] for line in lines} == {200, 206}
