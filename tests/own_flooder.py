"""A client that floods, or reads, as a process of its own: `python -m tests.own_flooder FILE`.

FILE has a `Flood` as JSON. It connects with MQTT 3.1.1, prints a line, and ends when its standard input does. It
speaks the protocol itself: a library would be slower than the broker that is flooded.
"""

from __future__ import annotations

import os
import socket
import ssl
import struct
import sys
import threading
import time
from itertools import count
from pathlib import Path
from typing import Final

from pydantic import BaseModel

_BATCH_BYTES: Final = 16 * 1024
_CONNECT, _PUBLISH, _SUBSCRIBE = 0x10, 0x30, 0x82
_CLEAN_WITH_PASSWORD: Final = 0b11000010
_ACCEPTED: Final = b"\x20\x02\0\0"


class Flood(BaseModel):
    """What to publish or to read, with QoS 0, and as whom."""

    host: str
    port: int
    account: str
    password: str
    ca_certificate: str | None = None
    topic: str
    reads: bool = False
    stalls: bool = False
    """Takes nothing of what it has subscribed to."""
    size_bytes: int = 0
    bytes_per_s: float = 1e12
    messages: int | None = None
    """It prints a second line after so many, and is silent then."""


def text(value: str) -> bytes:
    """Return a string as MQTT has it."""
    return struct.pack(">H", len(value.encode())) + value.encode()


def packet(first: int, body: bytes) -> bytes:
    """Return a packet with its length."""
    length, left = b"", len(body)
    while left > 0x7F:
        length, left = length + bytes([left & 0x7F | 0x80]), left >> 7
    return bytes([first]) + length + bytes([left]) + body


def connected(flood: Flood) -> socket.socket:
    """Log in, with the account's name as client id."""
    connection = socket.create_connection((flood.host, flood.port))
    if flood.ca_certificate:
        trust = ssl.create_default_context(cadata=flood.ca_certificate)
        connection = trust.wrap_socket(connection, server_hostname=flood.host)
    body = text("MQTT") + bytes([4, _CLEAN_WITH_PASSWORD, 0, 0])
    connection.sendall(
        packet(_CONNECT, body + b"".join(map(text, (flood.account, flood.account, flood.password))))
    )
    if connection.recv(4) != _ACCEPTED:
        raise ConnectionRefusedError(flood.account)
    return connection


def publish(connection: socket.socket, flood: Flood) -> None:
    """Publish as much as is wanted."""
    message = packet(_PUBLISH, text(flood.topic) + bytes(flood.size_bytes))
    at_once = max(1, _BATCH_BYTES // len(message))
    began = time.monotonic()
    for number in count(1):
        connection.sendall(message * at_once)
        if flood.messages is not None and number * at_once >= flood.messages:
            return
        time.sleep(max(0, began + number * at_once * len(message) / flood.bytes_per_s - time.monotonic()))


def say(line: str) -> None:
    """Print a line now."""
    sys.stdout.write(f"{line}\n")
    sys.stdout.flush()


def work(flood: Flood) -> None:
    """Do what is wanted until the process ends."""
    connection = connected(flood)
    if flood.reads:
        connection.sendall(packet(_SUBSCRIBE, b"\0\1" + text(flood.topic) + b"\0"))
    say("connected")
    if not flood.reads:
        publish(connection, flood)
        say("published")
    if flood.stalls:
        threading.Event().wait()
    while connection.recv(_BATCH_BYTES):
        pass


if __name__ == "__main__":
    os.nice(19)  # it is another machine in the world: it takes no processor time from the services
    given = Flood.model_validate_json(Path(sys.argv[1]).read_text())
    threading.Thread(target=work, args=[given], daemon=True).start()
    sys.stdin.read()
