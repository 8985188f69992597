"""Random histories of the core in C, and its MQTT codec in parts of every size."""

from __future__ import annotations

import subprocess
from typing import Any

import pytest

from tests.sdk.c_device import build
from tests.sdk.core import library

SECONDS = "4"
TOPIC = b"mdm/v1/d/x/down/config"


def test_random_histories_keep_the_promise() -> None:
    """A failure prints the rule that was broken; the seeds are the same each time."""
    played = subprocess.run([build("fuzz"), SECONDS], capture_output=True, text=True, check=False)
    assert (played.returncode, played.stderr) == (0, "")
    assert int(played.stdout.split()[0]) > 10


def publish(payload: bytes, *, qos: int) -> bytes:
    """Return a PUBLISH (MQTT 3.1.1, 3.3) with the identifier 258."""
    rest = len(TOPIC).to_bytes(2, "big") + TOPIC + (b"\1\2" if qos else b"") + payload
    length, size = b"", len(rest)
    while size > 127:
        length, size = length + bytes([size % 128 + 128]), size // 128
    return bytes([0x30 | qos << 1]) + length + bytes([size]) + rest


def heard(data: bytes, size: int) -> list[tuple[Any, ...]]:
    """Read packets in parts of a size; return the events, with the parts of a message put together."""
    ffi, lib = library()
    reader, event = ffi.new("struct mdm_mqtt_reader *"), ffi.new("struct mdm_mqtt_event *")
    events: list[tuple[Any, ...]] = []
    message = b""
    for begin in range(0, len(data), size):
        part = ffi.from_buffer(data[begin : begin + size])
        at = 0
        while at < len(part):
            at += lib.mdm_mqtt_read(reader, ffi.cast("uint8_t *", part) + at, len(part) - at, event)
            if event.kind == lib.MDM_MQTT_PUBLISH:
                assert event.offset == len(message)
                message += bytes(ffi.buffer(event.data, event.size)) if event.size else b""
                if len(message) == event.total:
                    events.append((ffi.string(reader.topic), event.qos, event.id if event.qos else 0, message))
                    message = b""
            elif event.kind != lib.MDM_MQTT_MORE:
                events.append((event.kind, event.code, event.id))
                if event.kind == lib.MDM_MQTT_BROKEN:
                    return events
    return events


@pytest.mark.parametrize("size", [1, 2, 3, 7, 64, 1000])
def test_packets_are_the_same_in_parts_of_any_size(size: int) -> None:
    _, lib = library()
    data = b"\x20\x02\x00\x05" + publish(b"", qos=0) + publish(b"x" * 300, qos=1) + b"\x40\x02\x01\x03\xd0\x00"
    assert heard(data + b"\x90\x03\x00\x01\x80", size) == [
        (lib.MDM_MQTT_CONNACK, 5, 5),
        (TOPIC, 0, 0, b""),
        (TOPIC, 1, 258, b"x" * 300),
        (lib.MDM_MQTT_PUBACK, 3, 259),
        (lib.MDM_MQTT_PONG, 0, 0),
        (lib.MDM_MQTT_SUBACK, 0x80, 1),
    ]


@pytest.mark.parametrize(
    "data",
    [
        b"\x00\x00",
        b"\xd0\x01x",
        b"\x30\x01\x00",
        b"\x30\x05\x00\x09abc",
        b"\x36\x05\x00\x01a\0\0",
        b"\x20\xff\xff\xff\xff\x01",
    ],
    ids=["no type", "a long pong", "no topic", "a short topic", "QoS 3", "a long length"],
)
def test_a_packet_that_breaks_the_standard_ends_the_connection(data: bytes) -> None:
    _, lib = library()
    assert heard(data, 1)[-1][0] == lib.MDM_MQTT_BROKEN


@pytest.mark.parametrize("qos", [0, 1])
@pytest.mark.parametrize("size", [0, 1, 127, 128, 16_384, 65_000])
def test_what_it_publishes_is_read_again(size: int, qos: int) -> None:
    ffi, lib = library()
    packet = ffi.new("uint8_t[]", 200)
    identifier = 258 if qos else 0
    written = lib.mdm_mqtt_publish(packet, 200, identifier, TOPIC, size, False)  # noqa: FBT003 - C has no names
    assert bytes(ffi.buffer(packet, written)) + b"x" * size == publish(b"x" * size, qos=qos)
    assert lib.mdm_mqtt_publish(packet, 10, identifier, TOPIC, size, False) == 0  # noqa: FBT003
