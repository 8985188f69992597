"""Many clients in one process do not take each other's sockets, and say nothing of what is over."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Iterator
from contextlib import contextmanager

import pytest
from paho.mqtt.client import DisconnectFlags
from paho.mqtt.packettypes import PacketTypes
from paho.mqtt.reasoncodes import ReasonCode

from shared.mqtt.client import Client

TURNS = 3
"""So often the loop comes by until what was asked of it is done."""


async def turns() -> None:
    for _ in range(TURNS):
        await asyncio.sleep(0)


@contextmanager
def errors_of(loop: asyncio.AbstractEventLoop) -> Iterator[list[object]]:
    errors: list[object] = []
    loop.set_exception_handler(lambda _loop, context: errors.append(context))
    try:
        yield errors
    finally:
        loop.set_exception_handler(None)


@pytest.mark.parametrize("callback", ["_on_socket_register_write", "_on_socket_open"])
async def test_a_socket_that_is_closed_before_it_is_waited_for_is_left_alone(callback: str) -> None:
    client, loop = Client("localhost"), asyncio.get_running_loop()
    closed, other = socket.socketpair()
    with errors_of(loop) as errors, other:
        getattr(client, callback)(client._client, None, closed)
        closed.close()
        # The number is free, and another connection's before the loop comes to it.
        with socket.socket() as another:
            await turns()
            assert errors == []
            assert not loop.remove_writer(another.fileno())
            assert not loop.remove_reader(another.fileno())


async def test_a_socket_is_written_to_and_read_as_soon_as_it_can_be() -> None:
    client, loop = Client("localhost"), asyncio.get_running_loop()
    one, other = socket.socketpair()
    with one, other:
        client._on_socket_register_write(client._client, None, one)
        client._on_socket_open(client._client, None, one)
        await turns()
        assert loop.remove_writer(one.fileno())
        assert loop.remove_reader(one.fileno())
        client._on_socket_close(client._client, None, one)
        await turns()


async def test_a_connection_that_ends_when_nobody_waits_for_it_any_more_is_no_error() -> None:
    client = Client("localhost")
    client._connected.cancel()
    refused = ReasonCode(PacketTypes.CONNACK, "Server busy")
    client._on_disconnect(client._client, None, DisconnectFlags(is_disconnect_packet_from_server=False), refused)
    assert not client._disconnected.done()
