"""The baseline for MQTT: answers each request with fixed bytes, without a database.

`python -m dev.bench.echo HOST PORT ACCOUNT` with the password and the answer in the environment. It is a simple
responder with aiomqtt, with as many concurrent answers as a service has.
"""

from __future__ import annotations

import asyncio
import os
import sys
from typing import Final
from uuid import uuid4

import aiomqtt

from shared.mqtt.client import TCP_NODELAY
from shared.mqtt.dispatcher import WORKERS
from shared.protocol import topics

PASSWORD: Final = "ECHO_PASSWORD"
ANSWER: Final = "ECHO_ANSWER"
"""Follows the fields of the request in the answer."""
QUESTION: Final = f"{topics.PREFIX}/d/{{client_id}}/up/bench/question"
BARE_QUESTION: Final = f"{topics.PREFIX}/d/{{client_id}}/up/bench/bare"
"""Answered by the benchmark itself."""
STATUS: Final = f"{topics.PREFIX}/d/{{client_id}}/up/bench/status"
READY: Final = "echo is ready"


async def main(host: str, port: int, account: str) -> None:
    """Answer until terminated."""
    rest = b"," + os.environ[ANSWER].encode()[1:]
    client = aiomqtt.Client(
        host,
        port,
        username=account,
        password=os.environ[PASSWORD],
        identifier=f"echo-{uuid4().hex}",
        protocol=aiomqtt.ProtocolVersion.V5,
        socket_options=[TCP_NODELAY],
    )

    client.pending_calls_threshold = 10_000  # logging each answer would slow it down

    async def work() -> None:
        async for message in client.messages:
            parts = str(message.topic).split("/")
            if parts[-1] == "question" and isinstance(message.payload, bytes):
                topic = topics.CONFIG.of(client_id=parts[3])
                await client.publish(topic, message.payload[:-1] + rest, qos=1)

    async with client:
        group = "$share/echo/"
        await client.subscribe([(group + topic.format(client_id="+"), 1) for topic in (QUESTION, STATUS)])
        sys.stdout.write(f"{READY}\n")
        sys.stdout.flush()
        async with asyncio.TaskGroup() as tasks:
            for _ in range(WORKERS):
                tasks.create_task(work())


if __name__ == "__main__":
    asyncio.run(main(sys.argv[1], int(sys.argv[2]), sys.argv[3]))
