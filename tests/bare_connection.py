"""A connection of MQTT 3.1.1 that sends what a test wants and nothing by itself: no ping, and no goodbye."""

from __future__ import annotations

import asyncio
import ssl
import struct
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass

from dev.waiting import PATIENCE_S
from shared.protocol import messages, topics
from shared.protocol.admin import Package

# MQTT 3.1.1, 3.1.2: protocol level 4; user name, password, will with QoS 1 that is retained; no clean session.
_FLAGS = 0x80 | 0x40 | 0x20 | 0x08 | 0x04
_CONNECT, _PUBLISH_RETAINED = 0x10, 0x31
_ACCEPTED = b"\x20\x02"


@dataclass(slots=True)
class BareConnection:
    """An open connection of a device, logged in with the package's secret."""

    client_id: str
    reader: asyncio.StreamReader
    writer: asyncio.StreamWriter

    async def report(self, status: messages.Status) -> None:
        """Publish a status with QoS 0."""
        topic = topics.STATUS.of(client_id=self.client_id)
        self.writer.write(_packet(_PUBLISH_RETAINED, _text(topic) + topics.STATUS.encode(status)))
        await self.writer.drain()

    async def ended(self) -> None:
        """Wait until the broker has closed the connection."""
        async with asyncio.timeout(PATIENCE_S):
            while await self.reader.read(65536):
                pass


@asynccontextmanager
async def bare(
    package: Package, *, source: str = "127.0.0.1", keepalive_s: int = 60
) -> AsyncIterator[BareConnection]:
    """Log in from an address, and leave the connection as it is until the block ends; then it is reset."""
    offline = topics.STATUS.encode(messages.Status(online=False))
    body = _text("MQTT") + struct.pack(">BBH", 4, _FLAGS, keepalive_s)
    fields = (package.client_id, topics.STATUS.of(client_id=package.client_id), offline.decode())
    body += b"".join(map(_text, (*fields, package.client_id, package.secret)))
    async with asyncio.timeout(PATIENCE_S):
        reader, writer = await asyncio.open_connection(
            package.mqtt_host,
            package.mqtt_port,
            ssl=ssl.create_default_context(cadata=package.ca_certificate),
            local_addr=(source, 0),
        )
        writer.write(_packet(_CONNECT, body))
        answer = await reader.readexactly(4)
    assert answer[:2] == _ACCEPTED
    assert answer[3] == 0, "the login is refused"
    try:
        yield BareConnection(package.client_id, reader, writer)
    finally:
        writer.transport.abort()


def _text(text: str) -> bytes:
    data = text.encode()
    return struct.pack(">H", len(data)) + data


def _packet(kind: int, body: bytes) -> bytes:
    length, size = len(body), b""
    while True:
        length, digit = divmod(length, 128)
        size += bytes([digit | 0x80 if length else digit])
        if not length:
            return bytes([kind]) + size + body
