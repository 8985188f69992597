"""A device that floods, as a process of its own: `python -m tests.flooder PACKAGE [TOPIC ...]`.

It says far more than it may of the topics named (all if none is), goes through each rotation that it is offered,
prints the new secret of each in a line, and ends when its standard input does.
"""

from __future__ import annotations

import asyncio
import contextlib
import sys
import time
from itertools import cycle
from pathlib import Path
from typing import Any, Final
from uuid import uuid4

import aiomqtt
from pydantic import SecretStr

from shared import crypto
from shared.protocol import messages, topics
from shared.protocol.admin import Package
from shared.protocol.messages import FirmwareStage
from shared.protocol.topics import Topic
from tests.raw import RESEND_S, RawDevice

_BACKLOG: Final = 500
_PER_S: Final = 2000
_SHA256: Final = "0" * 64
_LINE: Final = messages.LogLine(level=messages.LogLevel.INFO, message="x" * 200)
KINDS: Final[dict[str, tuple[Topic[Any], Any]]] = {
    "status": (topics.STATUS, messages.Status(online=True)),
    "config-get": (topics.CONFIG_GET, messages.ConfigGet(request_id="flood")),
    "config-report": (
        topics.CONFIG_REPORT,
        messages.ConfigReport(version=7, outcome=messages.ConfigOutcome.APPLIED),
    ),
    "log": (topics.LOG, messages.Log(boot=1, first=0, lines=[_LINE])),
    "check": (
        topics.FIRMWARE_CHECK,
        messages.FirmwareCheck(
            request_id="flood", version="1", sha256=_SHA256, chip="esp32", project="x", slot_size_bytes=1
        ),
    ),
    "report": (
        topics.FIRMWARE_REPORT,
        messages.FirmwareReport(sha256=_SHA256, stage=FirmwareStage.DOWNLOADING, percent=1),
    ),
    "chunk": (topics.FIRMWARE_CHUNK, messages.FirmwareChunkRequest(sha256=_SHA256, offset=0, length=1024)),
    "coredump": (topics.COREDUMP_OFFER, messages.CoreDumpOffer(sha256=_SHA256, size_bytes=1, elf_sha256=_SHA256)),
    "result": (topics.COMMAND_RESULT, messages.CommandResult(command_id=uuid4(), ok=True)),
    "request": (topics.ROTATION_REQUEST, messages.RotationRequest(rotation_id=uuid4())),
    "stored": (topics.ROTATION_STORED, messages.RotationStored(rotation_id=uuid4(), proof=_SHA256)),
    "ack": (topics.ROTATION_ACK, messages.RotationAck(rotation_id=uuid4(), proof=_SHA256)),
}


async def flood(device: RawDevice, kinds: list[str]) -> None:
    """Publish without end, as fast as a chip might and the own memory allows, whatever is answered."""
    client = device.client._client
    began = time.monotonic()
    for number, kind in enumerate(cycle(kinds)):
        topic, message = KINDS[kind]
        client.publish(topic.of(client_id=device.client_id), topic.encode(message), qos=number % 2)
        await asyncio.sleep(max(0, began + number / _PER_S - time.monotonic()) if number % 10 == 0 else 0)
        while len(client._out_packet) + len(client._out_messages) > _BACKLOG:  # noqa: ASYNC110 - paho tells nobody
            await asyncio.sleep(0.001)


async def rotate(package: Package, kinds: list[str]) -> Package:
    """Flood, and go through one rotation; return the package with the secret that is in force then."""
    async with flooding(package, kinds) as device:
        offer = await device.wait(topics.ROTATION_OFFER)
        names = {"rotation_id": offer.rotation_id}
        answer = await device.ask(
            topics.ROTATION_REQUEST, messages.RotationRequest(**names), topics.ROTATION_SECRET
        )
        assert answer.secret is not None
        sys.stdout.write(f"{answer.secret}\n")
        sys.stdout.flush()
        secret = SecretStr(answer.secret)
        stored = messages.RotationStored(**names, proof=crypto.proof(secret, "stored", offer.rotation_id))
        while not device.reading.done() and not device.received(topics.ROTATION_CANCELLED):
            with contextlib.suppress(aiomqtt.MqttError):
                await device.send(topics.ROTATION_STORED, stored)
            await asyncio.wait([device.reading], timeout=RESEND_S)
    renewed = package.model_copy(update={"secret": answer.secret})
    try:
        async with flooding(renewed, kinds) as device:
            ack = messages.RotationAck(**names, proof=crypto.proof(secret, "ack", offer.rotation_id))
            await device.ask(topics.ROTATION_ACK, ack, topics.ROTATION_DONE)
            return renewed
    except aiomqtt.MqttError:
        return package


@contextlib.asynccontextmanager
async def flooding(package: Package, kinds: list[str]) -> Any:  # noqa: ANN401
    """Connect, and flood until the block ends."""
    async with RawDevice(package) as device:
        task = asyncio.create_task(flood(device, kinds), name="flood")
        try:
            yield device
        finally:
            task.cancel()


async def main(package: Package, kinds: list[str]) -> None:
    """Flood until cancelled."""
    while True:
        try:
            package = await rotate(package, kinds)
        except (aiomqtt.MqttError, TimeoutError):
            await asyncio.sleep(RESEND_S)


async def until_the_end_of_input(package: Package, kinds: list[str]) -> None:
    """Run until nobody holds the other end of standard input."""
    running = asyncio.create_task(main(package, kinds))
    ended = asyncio.get_running_loop().run_in_executor(None, sys.stdin.read)
    await asyncio.wait([running, ended], return_when=asyncio.FIRST_COMPLETED)
    running.cancel()


if __name__ == "__main__":
    given = Package.model_validate_json(Path(sys.argv[1]).read_text())
    asyncio.run(until_the_end_of_input(given, sys.argv[2:] or [*KINDS]))
