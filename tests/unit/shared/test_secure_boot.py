"""Signatures for Secure Boot, as espsecure makes them: what is read of them, and how broken ones are named."""

from __future__ import annotations

import struct
import zlib

import pytest

from device import image_builder
from shared.esp32 import image, secure_boot
from shared.esp32.errors import ImageError
from shared.esp32.secure_boot import SignatureBlock
from tests.secure_boot import BLOCK_BYTES, SECTOR_BYTES, key_digest, sign, verifies

PLAIN = image_builder.build(version="1.0.0", project="p", size_bytes=4096 - 16)
ALIGNED = image_builder.build(version="1.0.0", project="p", size_bytes=4096)
SCHEMES = {"rsa": "RSA-3072", "p192": "ECDSA P-192", "p256": "ECDSA P-256", "p384": "ECDSA P-384"}


def error_of(data: bytes) -> ImageError:
    with pytest.raises(ImageError) as caught:
        image.parse(data)
    return caught.value


def with_crc(data: bytes, changes: dict[int, bytes]) -> bytes:
    """Return a signed file whose first block has other bytes and the right CRC for them."""
    changed = bytearray(data)
    start = len(data) - SECTOR_BYTES
    for offset, value in changes.items():
        changed[start + offset : start + offset + len(value)] = value
    struct.pack_into("<I", changed, start + 1196, zlib.crc32(changed[start : start + 1196]))
    return bytes(changed)


@pytest.mark.parametrize("name", SCHEMES)
@pytest.mark.parametrize("plain", [PLAIN, ALIGNED], ids=["padded", "aligned"])
def test_a_block_of_each_kind_is_read_with_the_digest_of_its_key(name: str, plain: bytes) -> None:
    signed = sign(plain, name)
    parsed = image.parse(signed)
    assert parsed.signatures == (SignatureBlock(2, SCHEMES[name], key_digest(name)),)
    assert parsed.size_bytes == len(signed)
    assert parsed.app_sha256 == image.parse(plain).app_sha256
    assert verifies(signed, name)


@pytest.mark.parametrize("names", [("rsa", "p256"), ("p256", "p256/2"), ("p384", "p192", "p256")])
def test_up_to_three_blocks_are_read_in_order(names: tuple[str, ...]) -> None:
    parsed = image.parse(sign(PLAIN, *names))
    assert [block.key_digest for block in parsed.signatures] == [key_digest(name) for name in names]


def test_a_signature_of_version_1_is_read_without_a_key() -> None:
    signed = sign(PLAIN, "p256", version=1)
    assert len(signed) == len(PLAIN) + 68
    assert image.parse(signed).signatures == (SignatureBlock(1, "ECDSA P-256", None),)


@pytest.mark.parametrize(
    ("change", "field", "rule"),
    [
        ({1: b"\x04"}, "version", "2 (RSA) or 3 (ECDSA)"),
        ({4: b"\x00"}, "digest", "of all before the sector"),
        ({40: bytes(8)}, "signature", "made with the key in the block"),
        ({500: bytes(8), 900: bytes(8)}, "signature", "made with the key in the block"),
        ({420: bytes(4)}, "signature", "made with the key in the block"),
    ],
    ids=["version", "digest", "modulus", "signature", "exponent"],
)
def test_a_broken_block_of_rsa_is_named_with_its_rule(change: dict[int, bytes], field: str, rule: str) -> None:
    error = error_of(with_crc(sign(PLAIN, "rsa"), change))
    assert error.details["field"] == f"signatures.0.{field}"
    assert rule in str(error.details["expected"])


@pytest.mark.parametrize(
    ("name", "change", "field", "rule"),
    [
        ("p256", {2: b"\x02"}, "hash", "0 (SHA-256) or 1 (SHA-384)"),
        ("p256", {36: b"\x03"}, "curve", "one of 1 (ECDSA P-192), 2 (ECDSA P-256)"),
        ("p384", {52: b"\x02"}, "curve", "one of 3 (ECDSA P-384)"),
        ("p256", {4: bytes(4)}, "digest", "of all before the sector"),
        ("p384", {4: bytes(4)}, "digest", "of all before the sector"),
        ("p192", {37: bytes(4)}, "signature", "made with the key in the block"),
        ("p256", {37: bytes(64)}, "signature", "made with the key in the block"),
        ("p256", {101: bytes(64)}, "signature", "made with the key in the block"),
        ("p384", {149: b"\xff" * 96}, "signature", "made with the key in the block"),
    ],
)
def test_a_broken_block_of_ecdsa_is_named_with_its_rule(
    name: str, change: dict[int, bytes], field: str, rule: str
) -> None:
    error = error_of(with_crc(sign(PLAIN, name), change))
    assert error.details["field"] == f"signatures.0.{field}"
    assert rule in str(error.details["expected"])


@pytest.mark.parametrize("number", [0, 1, 2])
def test_a_wrong_crc_is_named_with_its_block(number: int) -> None:
    signed = bytearray(sign(PLAIN, "p256", "p384", "p192"))
    signed[len(signed) - SECTOR_BYTES + number * BLOCK_BYTES + 1000] ^= 1
    assert error_of(bytes(signed)).details["field"] == f"signatures.{number}.crc"


def test_a_change_of_the_padding_is_one_of_what_is_signed() -> None:
    signed = bytearray(sign(PLAIN, "p256"))
    signed[len(PLAIN) + 3] = 0
    assert "padding of 0xFF" in str(error_of(bytes(signed)).details["expected"])


@pytest.mark.parametrize("at", [0, 32])
def test_numbers_of_version_1_out_of_range_are_refused(at: int) -> None:
    signed = bytearray(sign(PLAIN, "p256", version=1))
    signed[len(PLAIN) + 4 + at : len(PLAIN) + 36 + at] = b"\xff" * 32
    assert error_of(bytes(signed)).details["field"] == f"signatures.0.{'s' if at else 'r'}"


def test_a_sector_that_the_bootloader_would_not_find_is_refused() -> None:
    for data in (sign(PLAIN, "p256", skip_padding=True), sign(PLAIN + b"\xff" * 8192, "p256")):
        error = error_of(data)
        assert error.details["field"] == "size_bytes"
        assert "signatures for Secure Boot V2 at " in str(error.details["found"])
        assert "at the next multiple of 4096, signatures" in str(error.details["expected"])


def test_a_sector_that_is_cut_short_is_refused() -> None:
    assert error_of(sign(PLAIN, "rsa")[:-1]).message == "signatures: expected a sector of 4096, found 4095 bytes"


@pytest.mark.parametrize("trailer", [b"\x00", b"\xff" * 4096], ids=["zero", "padding"])
@pytest.mark.parametrize("version", [1, 2])
def test_nothing_may_follow_signatures(version: int, trailer: bytes) -> None:
    error = error_of(sign(PLAIN, "p256", version=version) + trailer)
    assert error.details["field"] == "size_bytes"
    assert "nothing may follow" in str(error.details["expected"])


@pytest.mark.parametrize("version", [1, 2])
def test_an_image_is_found_with_its_signatures_in_what_follows_it(version: int) -> None:
    signed = sign(PLAIN, "p256", version=version)
    for behind in (b"", b"\xff" * 8192, bytes(8192)):
        assert len(PLAIN) + secure_boot.size_bytes(signed + behind, len(PLAIN)) == len(signed)
