"""A minimal client of MQTT 3.1.1, so that a thousand of them do not dominate the measurement.

It supports QoS 1 without retransmission, and no keepalive: for a broker on the same machine.
"""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import Callable
from typing import Final

_CONNECT, _CONNACK, _PUBLISH, _PUBACK, _SUBSCRIBE, _SUBACK, _DISCONNECT = 1, 2, 3, 4, 8, 9, 14
_QOS_1: Final = 0b0010
_RETAIN: Final = 0b0001


class Light(asyncio.Protocol):
    """One connection; `on_message(topic, payload)` is called for each received message."""

    def __init__(self, on_message: Callable[[bytes, bytes], None] | None = None) -> None:
        self.on_message = on_message
        self.unacknowledged = 0
        self._left = b""
        self._number = 0
        self._answer: asyncio.Future[bytes] = asyncio.get_running_loop().create_future()

    async def connect(
        self, host: str, port: int, account: str, password: str, *, trust: ssl.SSLContext | None = None
    ) -> None:
        """Connect with a clean session; the client id is the account's name. Raise ConnectionError if refused."""
        loop = asyncio.get_running_loop()
        self._transport, _ = await loop.create_connection(lambda: self, host, port, ssl=trust)
        flags = 0b11000010  # user name, password, clean session
        body = _text(b"MQTT") + bytes((4, flags, 0, 0)) + _text(account.encode()) * 2 + _text(password.encode())
        answer = await self._exchange(_packet(_CONNECT, 0, body))
        if answer[1]:
            raise ConnectionRefusedError(f"the broker refuses {account}: {answer[1]}")

    async def subscribe(self, topic: str) -> None:
        """Subscribe with QoS 1."""
        await self._exchange(_packet(_SUBSCRIBE, _QOS_1, b"\0\1" + _text(topic.encode()) + b"\1"))

    def publish(self, topic: bytes, payload: bytes, *, retain: bool = False) -> None:
        """Publish with QoS 1 without waiting for the acknowledgement."""
        self._number = self._number % 0xFFFF + 1
        self.unacknowledged += 1
        body = _text(topic) + self._number.to_bytes(2, "big") + payload
        self._transport.write(_packet(_PUBLISH, _QOS_1 | (_RETAIN if retain else 0), body))

    def close(self) -> None:
        """Disconnect cleanly, so that the broker publishes no will."""
        self._transport.write(_packet(_DISCONNECT, 0, b""))
        self._transport.close()

    async def _exchange(self, packet: bytes) -> bytes:
        self._answer = asyncio.get_running_loop().create_future()
        self._transport.write(packet)
        return await self._answer

    def connection_lost(self, exc: Exception | None) -> None:
        """Fail all pending operations."""
        if not self._answer.done():
            self._answer.set_exception(exc or ConnectionResetError("the broker has closed the connection"))

    def data_received(self, data: bytes) -> None:
        """Handle all complete packets."""
        data, start = self._left + data, 0
        while (body := _body(data, start)) is not None:
            self._take(data[start], data[body])
            start = body.stop
        self._left = data[start:]

    def _take(self, first: int, body: bytes) -> None:
        kind = first >> 4
        if kind == _PUBLISH:
            end = 2 + int.from_bytes(body[:2], "big")
            topic, payload = body[2:end], body[end:]
            if first & _QOS_1:
                self._transport.write(_packet(_PUBACK, 0, payload[:2]))
                payload = payload[2:]
            if self.on_message is not None:
                self.on_message(topic, payload)
        elif kind == _PUBACK:
            self.unacknowledged -= 1
        elif kind in {_CONNACK, _SUBACK}:
            self._answer.set_result(body)


def _body(data: bytes, start: int) -> slice | None:
    """Return the position of the body of the packet at `start`, or None if the packet is incomplete."""
    length = shift = 0
    for place in range(start + 1, min(start + 5, len(data))):
        length |= (data[place] & 0x7F) << shift
        shift += 7
        if data[place] < 0x80:
            end = place + 1 + length
            return slice(place + 1, end) if end <= len(data) else None
    return None


def _text(text: bytes) -> bytes:
    return len(text).to_bytes(2, "big") + text


def _packet(kind: int, flags: int, body: bytes) -> bytes:
    length, size = len(body), bytearray()
    while True:
        length, low = divmod(length, 0x80)
        size.append(low | (0x80 if length else 0))
        if not length:
            return bytes((kind << 4 | flags,)) + size + body
