"""Connections to the port for images and page: who opens many, or says nothing, takes the service from nobody."""

from __future__ import annotations

import asyncio
import hashlib
import ssl
from contextlib import suppress

import httpx
import pytest

from dev import http_helpers
from dev.fleet import Fleet
from dev.servers.base import HOST
from dev.system import System
from dev.uploads import upload
from dev.waiting import until
from device import image_builder
from services.firmware.http.server import REQUEST_S
from shared.protocol import topics
from shared.protocol.admin import ImageView, Package
from tests.connections import ELSEWHERE, PATIENCE_S, ended, held
from tests.downloads import check
from tests.raw import RawDevice

MAX_FILES = "1024"
FLOOD = 1100
LARGE = 12 * 1024 * 1024


@pytest.fixture
async def image(fleet: Fleet) -> tuple[Package, ImageView]:
    model = await fleet.model(slot_size_bytes=LARGE + 1024 * 1024)
    package = await fleet.device(model)
    made = image_builder.build(version="1.1.0", project=model, size_bytes=LARGE)
    return package, await upload(fleet, model, made)


def visitor(system: System, token: str, source: str) -> httpx.AsyncClient:
    trust = ssl.create_default_context(cafile=system.stack.endpoints.ca_file)
    return httpx.AsyncClient(
        base_url=f"https://{HOST}:{system.http_ports['firmware']}",
        headers=http_helpers.bearer(token),
        transport=httpx.AsyncHTTPTransport(verify=trust, local_address=source),
        timeout=http_helpers.PATIENCE_S,
    )


@pytest.mark.parametrize("addresses", [1, 20], ids=["one address", "many addresses"])
async def test_connections_that_say_nothing_stop_neither_mqtt_nor_http_and_fill_no_log(
    system: System, image: tuple[Package, ImageView], addresses: int
) -> None:
    package, view = image
    token = await http_helpers.token(package)
    sources = [f"127.0.0.{10 + number % addresses}" for number in range(FLOOD)]
    async with system.altered("firmware", max_files=MAX_FILES):
        process = system.services["firmware"]
        before = process.log_size
        async with held(system.http_ports["firmware"], sources):
            async with RawDevice(package) as device:
                fits = check(view.model).model_copy(update={"slot_size_bytes": 2 * LARGE})
                await device.ask(topics.FIRMWARE_CHECK, fits, topics.FIRMWARE_OFFER)

            async def served() -> int | None:
                with suppress(httpx.TransportError):
                    async with visitor(system, token, ELSEWHERE) as client:
                        return (await client.head(f"/firmware/{view.sha256}")).status_code
                return None

            # Many addresses can take all connections, but none that says nothing keeps one.
            assert await (served() if addresses == 1 else until(served, within_s=PATIENCE_S)) == 200
            assert process.log_size - before < 100_000
            assert b"connections.refused" in process.log_since(before)


async def test_a_connection_without_a_whole_request_is_ended_and_a_slow_download_is_not(
    system: System, image: tuple[Package, ImageView]
) -> None:
    package, view = image
    token = await http_helpers.token(package)
    port = system.http_ports["firmware"]
    trust = ssl.create_default_context(cafile=system.stack.endpoints.ca_file)

    async def silent(*, tls: bool) -> None:
        reader, writer = await asyncio.open_connection(HOST, port, ssl=trust if tls else None)
        await ended(reader)
        writer.transport.abort()

    async def dripping(start: bytes) -> None:
        reader, writer = await asyncio.open_connection(HOST, port, ssl=trust)
        writer.write(start)
        ending = asyncio.ensure_future(ended(reader))
        while not ending.done():
            writer.write(b"X-Slow: x\r\n")
            await asyncio.wait([ending], timeout=0.5)
        await ending
        writer.transport.abort()

    async def slow() -> None:
        received = hashlib.sha256()
        async with (
            http_helpers.visiting(system, token) as client,
            client.stream("GET", f"/firmware/{view.sha256}") as answer,
        ):
            pieces = answer.aiter_raw()
            received.update(await anext(pieces))
            await asyncio.sleep(REQUEST_S * 1.2)
            async for piece in pieces:
                received.update(piece)
        assert received.hexdigest() == view.sha256

    first = b"GET / HTTP/1.1\r\nHost: x\r\n"
    await asyncio.gather(
        silent(tls=False),
        silent(tls=True),
        dripping(first),
        dripping(first + b"\r\n" + first),
        slow(),
    )


async def test_a_connection_that_is_closed_makes_room_for_another(system: System) -> None:
    port = system.http_ports["firmware"]
    trust = ssl.create_default_context(cafile=system.stack.endpoints.ca_file)

    async def answered() -> int | None:
        with suppress(httpx.TransportError):
            async with visitor(system, "none", ELSEWHERE) as client:
                return (await client.get("/firmware/latest")).status_code
        return None

    async with system.altered("firmware", MDM_HTTP_MAX_PER_ADDRESS="2"):
        for tls in (None, trust):
            for _ in range(5):
                async with held(port, [ELSEWHERE] * 2, tls=tls):
                    pass
            assert await until(answered) == 401
