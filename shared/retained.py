"""Which retained messages the broker holds: those of devices that are gone must not be left there."""

from __future__ import annotations

import asyncio
import math
from typing import Final
from uuid import uuid4

import aiomqtt

from shared.errors import UnavailableError
from shared.mqtt import Connection
from shared.mqtt_client import TCP_NODELAY, entered

_TIMEOUT_S: Final = 30.0


async def topics(connection: Connection, topic_filter: str) -> set[str]:
    """Return the topics that match and hold a retained message; raise UnavailableError, or as Account.shown.

    MQTT does not tell when all of them have come. Mosquitto (2.0.21) sends those of one subscription before those
    of the next, in one queue: so the connection's own greeting, which is retained, is asked for last.
    """
    if connection.greeting is None:
        raise ValueError("a connection without a retained greeting can not tell where the others end")
    last, _ = connection.greeting()
    account = connection.account
    password = await account.shown()
    client = aiomqtt.Client(
        account.host,
        account.port,
        username=account.username,
        password=password.get_secret_value(),
        identifier=f"{connection.identifier}-{uuid4().hex}",
        protocol=aiomqtt.ProtocolVersion.V5,
        timeout=math.inf,
        socket_options=[TCP_NODELAY],
    )
    found: set[str] = set()
    try:
        async with asyncio.timeout(_TIMEOUT_S), entered(client, timeout_s=_TIMEOUT_S):
            await client.subscribe([(topic_filter, 1), (last, 1)])
            async for message in client.messages:
                if message.retain and str(message.topic) == last:
                    break
                if message.retain:
                    found.add(str(message.topic))
    except (aiomqtt.MqttError, TimeoutError) as error:
        raise UnavailableError(f"the broker does not tell its retained messages: {error}; try again") from error
    return found
