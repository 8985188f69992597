"""Which connections are accepted, and that nothing that goes wrong with one ends the others."""

from __future__ import annotations

import asyncio
import errno
import socket
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from typing import Self

import pytest

from dev.servers.base import HOST
from shared.runtime import listener
from shared.runtime.listener import Listener, source_of

PATIENCE_S = 30


@asynccontextmanager
async def echoing(*, max_connections: int = 10, max_per_address: int = 10) -> AsyncIterator[int]:
    """Listen, and send back what each connection says; `!` breaks what serves it."""

    async def serve(connection: socket.socket) -> None:
        loop = asyncio.get_running_loop()
        with connection:
            while said := await loop.sock_recv(connection, 100):
                if said == b"!":
                    raise ValueError
                await loop.sock_sendall(connection, said)

    listening = listener.listening_on(HOST, 0, settings="port")
    port = listening.getsockname()[1]
    limits = {"max_connections": max_connections, "max_per_address": max_per_address}
    running = asyncio.create_task(Listener(listening, serve, **limits).run())
    try:
        yield port
    finally:
        running.cancel()
        with suppress(asyncio.CancelledError):
            await running


class Client:
    def __init__(self, port: int, source: str = HOST) -> None:
        self._place = (HOST, port), source

    async def __aenter__(self) -> Self:
        (host, port), source = self._place
        self._reader, self._writer = await asyncio.open_connection(host, port, local_addr=(source, 0))
        return self

    async def __aexit__(self, *_: object) -> None:
        self._writer.close()
        with suppress(OSError):
            await self._writer.wait_closed()

    async def said(self, text: bytes = b"x") -> bytes:
        """Return the answer; nothing when the connection is closed."""
        with suppress(ConnectionError):
            async with asyncio.timeout(PATIENCE_S):
                self._writer.write(text)
                return await self._reader.read(100)
        return b""


async def test_one_address_does_not_take_the_place_of_another() -> None:
    async with echoing(max_per_address=2) as port, Client(port) as first, Client(port) as second:
        assert [await one.said() for one in (first, second)] == [b"x", b"x"]
        async with Client(port) as third, Client(port, "127.0.0.2") as other:
            assert await third.said() == b""
            assert await other.said() == b"x"
        assert await first.said() == b"x"


async def test_there_are_no_more_connections_than_the_limit_and_one_that_ends_makes_room() -> None:
    async with echoing(max_connections=1) as port:
        async with Client(port) as first, Client(port, "127.0.0.2") as second:
            assert await first.said() == b"x"
            assert await second.said() == b""
        async with asyncio.timeout(PATIENCE_S):
            answer = b""
            while not answer:
                async with Client(port, "127.0.0.2") as third:
                    answer = await third.said()


async def test_an_error_of_one_connection_ends_no_other() -> None:
    async with echoing() as port, Client(port) as first, Client(port) as broken:
        assert await broken.said(b"!") == b""
        assert await first.said() == b"x"
        async with Client(port) as third:
            assert await third.said() == b"x"


async def test_it_goes_on_when_there_are_files_again(monkeypatch: pytest.MonkeyPatch) -> None:
    loop = asyncio.get_running_loop()
    accept, asked = loop.sock_accept, 0

    async def exhausted_at_first(listening: socket.socket) -> tuple[socket.socket, tuple[str, int]]:
        nonlocal asked
        asked += 1
        if asked <= 2:
            raise OSError(errno.EMFILE, "Too many open files")
        return await accept(listening)

    monkeypatch.setattr(loop, "sock_accept", exhausted_at_first)
    monkeypatch.setattr(listener, "_RETRY_S", 0.01)
    async with echoing() as port, Client(port) as client:
        assert await client.said() == b"x"
    assert asked >= 3


@pytest.mark.parametrize(
    ("address", "source"),
    [
        ("192.0.2.1", "192.0.2.1"),
        ("::ffff:192.0.2.1", "192.0.2.1"),
        ("2001:db8:1:2:3:4:5:6", "2001:db8:1:2::/64"),
        ("fe80::1%eth0", "fe80::/64"),
    ],
)
def test_all_addresses_that_one_host_may_take_are_one_source(address: str, source: str) -> None:
    assert source_of(address) == source
