"""Packets of MQTT (3.1.1) as a proxy reads them: the fixed header, a publication's topic and identifier."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from typing import Final

CONNACK: Final = 0x20
PUBLISH: Final = 0x30
PUBACK: Final = 0x40
SUBACK: Final = 0x90
_QOS_1, _RETAIN = 0x02, 0x01


@dataclass(frozen=True, slots=True)
class Packet:
    """A packet: its first byte, and all behind its length."""

    first: int
    body: bytes

    @property
    def kind(self) -> int:
        return self.first & 0xF0

    @property
    def raw(self) -> bytes:
        """The packet as bytes."""
        return bytes([self.first]) + varied(len(self.body)) + self.body


@dataclass(frozen=True, slots=True)
class Publication:
    """A PUBLISH, whose `identifier` is None with QoS 0."""

    topic: str
    payload: bytes
    identifier: int | None
    retain: bool = False

    @classmethod
    def of(cls, packet: Packet) -> Publication:
        """Read a PUBLISH."""
        end = 2 + int.from_bytes(packet.body[:2], "big")
        rest = packet.body[end:]
        topic, retain = packet.body[2:end].decode(), bool(packet.first & _RETAIN)
        if not packet.first & 6:
            return cls(topic, rest, None, retain)
        return cls(topic, rest[2:], int.from_bytes(rest[:2], "big"), retain)

    @property
    def packet(self) -> Packet:
        """The PUBLISH, with QoS 1 if it has an identifier."""
        identifier = b"" if self.identifier is None else self.identifier.to_bytes(2, "big")
        topic = self.topic.encode()
        first = PUBLISH | (_QOS_1 if identifier else 0) | (_RETAIN if self.retain else 0)
        return Packet(first, len(topic).to_bytes(2, "big") + topic + identifier + self.payload)


def puback(identifier: int) -> bytes:
    """Return the acknowledgement of a publication."""
    return Packet(PUBACK, identifier.to_bytes(2, "big")).raw


async def read(reader: asyncio.StreamReader) -> Packet | None:
    """Read the next packet, or None at the end."""
    first = await reader.read(1)
    if not first:
        return None
    length = shift = 0
    more = True
    while more:
        [digit] = await reader.readexactly(1)
        length |= (digit & 0x7F) << shift
        shift += 7
        more = digit >= 0x80
    return Packet(first[0], await reader.readexactly(length))


def varied(length: int) -> bytes:
    """Return a variable byte integer (MQTT 5, 1.5.5)."""
    digits: list[int] = []
    while True:
        length, digit = divmod(length, 0x80)
        digits.append(digit | 0x80 if length else digit)
        if not length:
            return bytes(digits)
