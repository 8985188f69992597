"""A tiny builder of ESP32 images, written from the format's description and not from the parser."""

import hashlib
from functools import reduce
from operator import xor

CHIPS = {
    "esp32": 0,
    "esp32s2": 2,
    "esp32c3": 5,
    "esp32s3": 9,
    "esp32c2": 12,
    "esp32c6": 13,
    "esp32h2": 16,
    "esp32p4": 18,
    "esp32c61": 20,
    "esp32c5": 23,
    "esp32h21": 25,
    "esp32h4": 28,
    "esp32e22": 31,
    "esp32s31": 32,
}


def descriptor(
    *,
    version: bytes = b"1.2.3",
    project: bytes = b"sensor",
    magic: int = 0xABCD5432,
    secure_version: int = 7,
    elf_sha256: bytes = bytes(range(32)),
) -> bytes:
    """Return the 256 bytes of an esp_app_desc_t."""
    fields = [
        magic.to_bytes(4, "little"),
        secure_version.to_bytes(4, "little"),
        bytes(8),
        version.ljust(32, b"\x00"),
        project.ljust(32, b"\x00"),
        b"12:34:56".ljust(16, b"\x00"),
        b"Feb  1 2025".ljust(16, b"\x00"),
        b"v5.5.1".ljust(32, b"\x00"),
        elf_sha256,
    ]
    return b"".join(fields).ljust(256, b"\x00")


def build(
    *,
    chip_id: int = 0,
    magic: int = 0xE9,
    segments: list[bytes] | None = None,
    segment_count: int | None = None,
    hash_flag: int = 1,
    checksum: int | None = None,
    digest: bytes | None = None,
    trailer: bytes = b"",
    revisions: tuple[int, int] = (0, 399),
    address: int = 0x3F400020,
) -> bytes:
    """Return an image; what is given replaces what would be right."""
    pieces = [descriptor() + b"rodata.." * 5, b"\x01\x02\x03\x04" * 9] if segments is None else segments
    count = len(pieces) if segment_count is None else segment_count
    image = bytearray(24)
    image[0] = magic
    image[1] = count
    image[2:4] = b"\x02\x20"
    image[4:8] = (0x40081234).to_bytes(4, "little")
    image[8] = 0xEE
    image[12:14] = chip_id.to_bytes(2, "little")
    image[15:17] = revisions[0].to_bytes(2, "little")
    image[17:19] = revisions[1].to_bytes(2, "little")
    image[23] = hash_flag
    for number, piece in enumerate(pieces):
        image += (address + 0x10000 * number).to_bytes(4, "little")
        image += len(piece).to_bytes(4, "little") + piece
    image += bytes(15 - len(image) % 16)
    right = reduce(xor, b"".join(pieces), 0xEF)
    image.append(right if checksum is None else checksum)
    if hash_flag == 1:
        image += hashlib.sha256(image).digest() if digest is None else digest
    return bytes(image + trailer)
