"""Many clients in one process do not take each other's sockets."""

from __future__ import annotations

import asyncio
import socket

from shared.mqtt_client import Client


async def test_a_socket_that_is_closed_before_it_is_waited_for_is_left_alone() -> None:
    client, loop = Client("localhost"), asyncio.get_running_loop()
    errors: list[object] = []
    loop.set_exception_handler(lambda _loop, context: errors.append(context))
    closed, other = socket.socketpair()
    try:
        client._on_socket_register_write(client._client, None, closed)
        closed.close()
        # The number is free, and another connection's before the loop comes to it.
        another = socket.socket()
        await asyncio.sleep(0)
        await asyncio.sleep(0)
        assert errors == []
        assert not loop.remove_writer(another.fileno())
    finally:
        another.close()
        other.close()
        loop.set_exception_handler(None)


async def test_a_socket_is_written_to_as_soon_as_it_can_be() -> None:
    client, loop = Client("localhost"), asyncio.get_running_loop()
    one, other = socket.socketpair()
    try:
        client._on_socket_register_write(client._client, None, one)
        await asyncio.sleep(0)
        assert loop.remove_writer(one.fileno())
    finally:
        one.close()
        other.close()
