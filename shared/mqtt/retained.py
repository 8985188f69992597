"""Reads and clears the broker's retained messages."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Collection
from contextlib import asynccontextmanager
from typing import Final
from uuid import uuid4

import aiomqtt

from shared.errors import UnavailableError
from shared.mqtt.client import Client, entered
from shared.mqtt.connection import Connection

_SILENCE_S: Final = 30.0
"""Timeout while no message arrives; there may be very many messages."""
_REQUEST_EVERY_S: Final = 1.0
_AT_ONCE: Final = 200


async def topics(connection: Connection, *filters: str) -> set[str]:
    """Return the topics that match one of the filters and have a retained message, see `messages`."""
    return {topic async for topic, _ in messages(connection, *filters)}


async def message(connection: Connection, topic: str) -> bytes | None:
    """Return the retained message of a topic, or None if there is none, see `messages`."""
    return {name: payload async for name, payload in messages(connection, topic)}.get(topic)


async def messages(connection: Connection, *filters: str) -> AsyncIterator[tuple[str, bytes]]:
    """Yield each topic that matches one of the filters and has a retained message, and that message.

    Some messages are missing, but never all, if there are more than the broker queues (max_queued_bytes).
    Raise UnavailableError, or as Account.client.

    MQTT has no end mark for retained messages. Mosquitto (2.0.21) sends those of one subscription before those of
    the next, in one queue: so the connection's own birth message, which is retained, is requested last, and
    repeatedly since it is dropped while the queue is full.
    """
    if connection.birth is None:
        raise ValueError("a connection without a retained birth message cannot detect the end of the others")
    last, _ = connection.birth()
    client = await connection.account.client(f"{connection.identifier}-{uuid4().hex}")
    try:
        async with entered(client, timeout_s=_SILENCE_S), asyncio.timeout(_SILENCE_S) as patience:
            await client.subscribe([(wanted, 1) for wanted in filters])
            async with _requested_repeatedly(client, last):
                async for found in client.messages:
                    patience.reschedule(asyncio.get_running_loop().time() + _SILENCE_S)
                    if found.retain and str(found.topic) == last:
                        break
                    if found.retain:
                        yield str(found.topic), bytes(found.payload) if isinstance(found.payload, bytes) else b""
    except (aiomqtt.MqttError, TimeoutError) as error:
        raise UnavailableError(f"the broker does not send its retained messages: {error}; retry") from error


async def clear(connection: Connection, *filters: str, keep: Collection[str] = ()) -> None:
    """Clear the retained messages on topics that match one of the filters, except those in `keep`.

    Raises as `topics`.
    """
    while found := list(await topics(connection, *filters) - set(keep)):
        for start in range(0, len(found), _AT_ONCE):
            some = found[start : start + _AT_ONCE]
            await asyncio.gather(*(connection.publish(topic, b"", retain=True) for topic in some))


@asynccontextmanager
async def _requested_repeatedly(client: Client, topic: str) -> AsyncIterator[None]:
    """Subscribe to a topic now and each second: its retained message is sent each time."""

    async def request() -> None:
        while True:
            await client.subscribe(topic, 1)
            await asyncio.sleep(_REQUEST_EVERY_S)

    asking = asyncio.create_task(request(), name="retained:request")
    try:
        yield
    finally:
        asking.cancel()
        # A lost connection is detected where the messages are read.
        with contextlib.suppress(asyncio.CancelledError, aiomqtt.MqttError):
            await asking
