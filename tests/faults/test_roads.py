"""Roads themselves: a closed one refuses connections, and its port is nobody else's."""

from __future__ import annotations

import asyncio
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
