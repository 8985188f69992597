from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from dataclasses import dataclass, field

import pytest
from pydantic import SecretStr
from structlog.testing import capture_logs

from shared.broker.api import Broker
from shared.broker.token_broker import TokenBroker
from shared.errors import ConflictError
from shared.protocol.admin import Role

DEVICE = "iotdevice-blink-a1b2c3d4"
SECRET = SecretStr("s")


@dataclass
class Api:
    """The broker's API, which says the same to all."""

    status: str = "200 OK"
    url: str = ""
    asked: list[str] = field(default_factory=list)

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        head = (await reader.readuntil(b"\r\n\r\n")).decode()
        assert "authorization: bearer key" in head.lower()
        self.asked.append(head.split(" HTTP", 1)[0])
        writer.write(f"HTTP/1.1 {self.status}\r\nContent-Length: 0\r\nConnection: close\r\n\r\n".encode())
        await writer.drain()
        writer.close()


@pytest.fixture
async def api() -> AsyncIterator[Api]:
    found = Api()
    server = await asyncio.start_server(found.serve, "127.0.0.1", 0)
    found.url = f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}/api/v1"
    yield found
    server.close()


@pytest.mark.parametrize("status", ["200 OK", "204 No Content", "404 Not Found"])
async def test_whoever_gets_no_more_tokens_is_cut_off(api: Api, status: str) -> None:
    api.status = status
    async with TokenBroker([api.url], SecretStr("key")) as broker:
        assert broker.drops
        await broker.enable(DEVICE, enabled=False)
        await broker.put(DEVICE, SECRET, 2)
        await broker.delete(DEVICE)
        await broker.enable(DEVICE, enabled=True)
    assert api.asked == [f"DELETE /api/v1/clients/{DEVICE}"] * 3


async def test_a_name_is_not_taken_for_a_path(api: Api) -> None:
    async with TokenBroker([api.url], SecretStr("key")) as broker:
        await broker.delete("a/../b")
    assert api.asked == ["DELETE /api/v1/clients/a%2F..%2Fb"]


@pytest.mark.parametrize("status", ["401 Unauthorized", "500 Internal Server Error", None])
async def test_a_node_that_cannot_be_told_is_passed_over_and_logged(
    api: Api, unused_tcp_port: int, status: str | None
) -> None:
    bad = Api(status or "")
    server = await asyncio.start_server(bad.serve, "127.0.0.1", 0)
    port = unused_tcp_port if status is None else server.sockets[0].getsockname()[1]
    with capture_logs() as logs:
        async with TokenBroker([f"http://127.0.0.1:{port}", api.url], SecretStr("key")) as broker:
            await broker.delete(DEVICE)
    server.close()
    assert [line["event"] for line in logs] == ["broker.disconnect_failed"]
    assert api.asked == [f"DELETE /api/v1/clients/{DEVICE}"]


async def test_without_an_api_nobody_is_cut_off_and_it_says_so() -> None:
    async with TokenBroker([], None) as broker:
        assert not broker.drops
        await broker.enable(DEVICE, enabled=False)
        await broker.delete(DEVICE)


async def test_what_needs_an_account_is_refused_and_nothing_is_said_to_be_there() -> None:
    async with TokenBroker([], None) as made:
        broker: Broker = made
        with pytest.raises(ConflictError, match="claims need a broker with accounts"):
            await broker.put_claim("claim-a1b2c3d4", SECRET)
        with pytest.raises(ConflictError, match="create a client eve in Keycloak"):
            await broker.admins.put("eve", Role.VIEWER, SECRET)
        with pytest.raises(ConflictError, match="eve has no role"):
            await broker.admins.set_role("eve", Role.VIEWER)
        await broker.admins.delete("eve")
        assert await broker.devices() is None
        assert (await broker.claims(), await broker.admins.found()) == (set(), {})
