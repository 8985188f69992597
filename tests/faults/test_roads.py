"""Roads themselves: a closed one refuses connections, and its port is nobody else's."""

from __future__ import annotations

import asyncio
import gc
import socket

import pytest

from dev.servers.base import HOST
from tests.faults.roads import Road


async def test_a_closed_road_refuses_and_keeps_its_port() -> None:
    broker = await asyncio.start_server(lambda _reader, writer: writer.close(), HOST, 0)
    road = Road(broker.sockets[0].getsockname()[1])
    for _ in range(2):
        with socket.socket() as other, pytest.raises(OSError, match="in use"):
            other.bind((HOST, road.port))
        with pytest.raises(ConnectionRefusedError):
            await asyncio.open_connection(HOST, road.port)
        await road.open()
        reader, writer = await asyncio.open_connection(HOST, road.port)
        assert await reader.read() == b""
        writer.close()
        await road.close()
    broker.close()


async def test_a_connection_that_is_accepted_as_the_road_closes_is_closed_too() -> None:
    """Else it is found later, when memory is freed, as a fault of another test."""
    broker = await asyncio.start_server(lambda _reader, writer: writer.close(), HOST, 0)
    road = Road(broker.sockets[0].getsockname()[1])
    for passes in range(4):
        await road.open()
        with socket.create_connection((HOST, road.port)) as traveller:
            for _ in range(passes):
                await asyncio.sleep(0)
            await road.close()
            traveller.settimeout(0)
            with pytest.raises(ConnectionError):  # noqa: PT012 - refused or closed
                async with asyncio.timeout(5):
                    if await asyncio.get_running_loop().sock_recv(traveller, 1) == b"":
                        raise ConnectionResetError
    broker.close()
    gc.collect()
