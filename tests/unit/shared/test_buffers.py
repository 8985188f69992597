"""What a device needs as its buffer for one packet, as docs/write-a-device.md says."""

from __future__ import annotations

import re
from datetime import UTC, datetime
from pathlib import Path
from typing import Any
from uuid import UUID

import pytest

from shared import crypto
from shared.protocol import messages, topics
from shared.protocol.topics import Topic

GUIDE = Path(__file__).parents[3] / "docs/write-a-device.md"
CLIENT_ID = f"iotdevice-{'m' * 50}-abcd1234"
SHA256 = "ab" * 32
NOW = datetime(2026, 1, 1, tzinfo=UTC)
ID = UUID("7b1f1d5e-7c7e-4b53-a6f5-0d2d8cf3b4f1")
GENERATION = 10**6
# MQTT 3.1.1, 2.2 and 3.3: type and flags, up to 4 bytes of length, those of the topic, and the packet's id.
HEADER_BYTES = 1 + 4 + 2 + 2


def sealed() -> str:
    return crypto.seal(crypto.new_secret(), crypto.public_half(crypto.new_key_pair()))


def longest() -> list[tuple[Topic[Any], Any]]:
    """Return the longest message of each kind that real names and numbers make, apart from documents."""
    host = f"https://{'h' * 63}.example.org:65535"
    recovery = messages.Recovery(
        port=65535,
        account="recover-07",
        password="recover-07",
        server_key=crypto.public_half(crypto.new_key_pair()),
    )
    rotation: dict[str, Any] = {"rotation_id": ID, "generation": GENERATION}
    return [
        (
            topics.FIRMWARE_OFFER,
            messages.FirmwareOffer(
                request_id="r" * 36,
                sha256=SHA256,
                size_bytes=16 * 1024 * 1024,
                version="v" * 32,
                chunk_size_bytes=64 * 1024,
                window=64,
                url=f"{host}/firmware/{SHA256}",
                time=NOW,
            ),
        ),
        (topics.FIRMWARE_CANCELLED, messages.FirmwareCancelled(sha256=SHA256, reason="r" * 200)),
        (
            topics.CONFIG,
            messages.Config(
                request_id="r" * 36,
                version=GENERATION,
                document={},
                trial_seconds=86400,
                secret_generation=GENERATION,
                time=NOW,
            ),
        ),
        (topics.ROTATION_OFFER, messages.RotationOffer(**rotation, deadline=NOW, current_generation=GENERATION)),
        (topics.ROTATION_SECRET, messages.RotationSecret(**rotation, jwe=sealed())),
        (topics.ROTATION_CANCELLED, messages.RotationCancelled(rotation_id=ID, reason="r" * 200)),
        (
            topics.KEY_KNOWN,
            messages.DeviceKeyKnown(public_key=crypto.public_half(crypto.new_key_pair()), recovery=recovery),
        ),
        (topics.COMMAND, messages.Command(command_id=ID, name="n" * 50, expires_at=NOW)),
    ]


def packet_bytes(topic: Topic[Any], message: Any) -> int:  # noqa: ANN401
    names = {"client_id": CLIENT_ID, "sha256": SHA256, "offset": 16 * 1024 * 1024}
    return HEADER_BYTES + len(topic.of(**names)) + len(topic.encode(message))


def stated(words: str) -> int:
    """Return the number in the guide that follows these words."""
    found = re.search(rf"{re.escape(words)}\D*(\d+)", GUIDE.read_text())
    assert found is not None, words
    return int(found[1])


@pytest.mark.parametrize(("topic", "message"), longest(), ids=lambda it: getattr(it, "short", ""))
def test_the_buffer_of_the_guide_takes_every_message(topic: Topic[Any], message: object) -> None:
    assert packet_bytes(topic, message) <= stated("setBufferSize(")


def test_the_buffer_of_the_guide_takes_a_piece_of_the_length_of_the_guide() -> None:
    piece = bytes(stated("`length` of"))
    assert packet_bytes(topics.FIRMWARE_CHUNK_DATA, piece) <= stated("setBufferSize(")


def test_without_a_larger_buffer_an_offer_does_not_fit() -> None:
    """So the guide must say it."""
    assert packet_bytes(*longest()[0]) > 256
