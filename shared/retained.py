"""Which retained messages the broker holds: those of devices that are gone must not be left there."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from typing import Final
from uuid import uuid4

import aiomqtt

from shared.errors import UnavailableError
from shared.mqtt import Connection
from shared.mqtt_client import entered

_SILENCE_S: Final = 30.0
"""So long may the broker say nothing; there may be very many messages."""


async def topics(connection: Connection, *filters: str) -> set[str]:
    """Return the topics that match one of the filters and hold a retained message, as `messages`."""
    return {topic async for topic, _ in messages(connection, *filters)}


async def message(connection: Connection, topic: str) -> bytes | None:
    """Return the retained message of a topic, or None if there is none, as `messages`."""
    return {name: payload async for name, payload in messages(connection, topic)}.get(topic)


async def messages(connection: Connection, *filters: str) -> AsyncIterator[tuple[str, bytes]]:
    """Yield each topic that matches one of the filters and holds a retained message, and that message.

    Raise UnavailableError, or as Account.client.

    MQTT does not tell when all of them have come. Mosquitto (2.0.21) sends those of one subscription before those
    of the next, in one queue: so the connection's own greeting, which is retained, is asked for last.
    """
    if connection.greeting is None:
        raise ValueError("a connection without a retained greeting cannot tell where the others end")
    last, _ = connection.greeting()
    client = await connection.account.client(f"{connection.identifier}-{uuid4().hex}")
    try:
        async with entered(client, timeout_s=_SILENCE_S), asyncio.timeout(_SILENCE_S) as patience:
            await client.subscribe([*((wanted, 1) for wanted in filters), (last, 1)])
            async for found in client.messages:
                patience.reschedule(asyncio.get_running_loop().time() + _SILENCE_S)
                if found.retain and str(found.topic) == last:
                    break
                if found.retain:
                    yield str(found.topic), bytes(found.payload) if isinstance(found.payload, bytes) else b""
    except (aiomqtt.MqttError, TimeoutError) as error:
        raise UnavailableError(f"the broker does not tell its retained messages: {error}; try again") from error
