"""Builds valid ESP32 application images, laid out as by esptool's elf2image, for tests and first starts.

`python -m device.image_builder --version 1.1.0 --project blink --chip esp32 --output FILE`
"""

from __future__ import annotations

import argparse
import hashlib
import struct
import sys
from collections.abc import Sequence
from functools import reduce
from operator import xor
from pathlib import Path
from typing import Final

from shared.errors import InvalidInputError
from shared.esp32.chips import CHIP_IDS, CHIPS, DESCRIPTOR_MAGIC, IMAGE_MAGIC

# Where the internal RAM for code of a chip is (esptool's memory maps).
_CODE_ADDRESSES: Final = {
    "esp32": 0x40080000,
    "esp32s2": 0x40024000,
    "esp32s3": 0x40374000,
    "esp32c2": 0x4037C000,
    "esp32c3": 0x4037C000,
    "esp32c5": 0x40800000,
    "esp32c6": 0x40800000,
    "esp32c61": 0x40800000,
    "esp32h2": 0x40800000,
    "esp32h21": 0x40800000,
    "esp32h4": 0x40810000,
    "esp32p4": 0x4FF00000,
    "esp32e22": 0x30FE0000,
    "esp32s31": 0x2F000000,
}
# An image is mapped in pages of 64 KiB, so data at file offset 32 has an address that ends in 0x20.
_DATA_OFFSET: Final = 32
_HEADER: Final = struct.Struct("<BBBBIB3sHBHH4sB")
_SEGMENT: Final = struct.Struct("<II")
_DESCRIPTOR: Final = struct.Struct("<II8s32s32s16s16s32s32sHHB3s72s")
_CHECKSUM_SEED: Final = 0xEF
_CODE: Final = bytes(16)
_ALIGNMENT: Final = 16
_DIGEST_BYTES: Final = 32
_FRAME_BYTES: Final = _HEADER.size + 2 * _SEGMENT.size + _DESCRIPTOR.size + len(_CODE)
MIN_IMAGE_BYTES: Final = (_FRAME_BYTES // _ALIGNMENT + 1) * _ALIGNMENT + _DIGEST_BYTES


def build(
    *,
    version: str,
    project: str,
    chip: str = "esp32",
    secure_version: int = 0,
    payload: bytes | int = 4096,
    size_bytes: int | None = None,
    idf_version: str = "v5.4",
    elf_sha256: bytes | None = None,
) -> bytes:
    """Return an image; the same arguments give the same bytes.

    `payload` is the data after the descriptor, or its length in bytes, filled from version and project;
    `size_bytes` is the length of the whole file and overrules a payload: a multiple of 16 and at least
    MIN_IMAGE_BYTES. `elf_sha256` is 32 bytes. Raises InvalidInputError.
    """
    if chip not in CHIP_IDS:
        raise InvalidInputError(f"chip: must be one of {', '.join(CHIP_IDS)}")
    if size_bytes is not None:
        if size_bytes < MIN_IMAGE_BYTES or size_bytes % _ALIGNMENT:
            raise InvalidInputError(f"size_bytes: must be a multiple of 16 and at least {MIN_IMAGE_BYTES}")
        payload = size_bytes - MIN_IMAGE_BYTES
    filler = f"{project} {version}".encode()
    data = hashlib.shake_256(filler).digest(payload) if isinstance(payload, int) else payload
    data += bytes(-len(data) % 4)
    digest = hashlib.sha256(filler).digest() if elf_sha256 is None else elf_sha256
    if len(digest) != _DIGEST_BYTES:
        raise InvalidInputError(f"elf_sha256: must be {_DIGEST_BYTES} bytes, has {len(digest)}")
    descriptor = _DESCRIPTOR.pack(
        DESCRIPTOR_MAGIC,
        secure_version,
        b"",
        _field(version, "version"),
        _field(project, "project"),
        b"00:00:00",
        b"Jan  1 2026",
        _field(idf_version, "idf_version"),
        digest,
        0,
        0xFFFF,
        16,
        b"",
        b"",
    )
    kind, code_address = CHIPS[CHIP_IDS[chip]], _CODE_ADDRESSES[chip]
    segments = ((kind.flash_data.start + _DATA_OFFSET, descriptor + data), (code_address, _CODE))
    return _assemble(segments, chip_id=kind.image_id, entry=code_address)


def _assemble(segments: Sequence[tuple[int, bytes]], *, chip_id: int, entry: int) -> bytes:
    # Mode DIO, 40 MHz, flash of 4 MB, no write-protect pin, any chip revision, and a digest at the end.
    image = _HEADER.pack(IMAGE_MAGIC, len(segments), 2, 0x20, entry, 0xEE, b"", chip_id, 0, 0, 0xFFFF, b"", 1)
    checksum = _CHECKSUM_SEED
    for address, data in segments:
        image += _SEGMENT.pack(address, len(data)) + data
        checksum = reduce(xor, data, checksum)
    image += bytes(_ALIGNMENT - 1 - len(image) % _ALIGNMENT) + bytes([checksum])
    return image + hashlib.sha256(image).digest()


def _field(text: str, name: str) -> bytes:
    if not (text and text.isascii() and text.isprintable() and len(text) < 32):  # noqa: PLR2004 — with its NUL
        raise InvalidInputError(f"{name}: must be 1 to 31 printable ASCII characters")
    return text.encode()


def main(arguments: Sequence[str] | None = None) -> int:
    """Write an image to a file; return the exit status: 2 when an argument breaks a rule."""
    parser = argparse.ArgumentParser(prog="python -m device.image_builder", description=__doc__.splitlines()[0])
    parser.add_argument("--version", required=True)
    parser.add_argument("--project", required=True)
    parser.add_argument("--chip", default="esp32", choices=CHIP_IDS)
    parser.add_argument("--secure-version", type=int, default=0)
    parser.add_argument("--size-bytes", type=int, help="length of the whole file, a multiple of 16")
    parser.add_argument("--output", type=Path, required=True)
    given = parser.parse_args(arguments)
    try:
        image = build(
            version=given.version,
            project=given.project,
            chip=given.chip,
            secure_version=given.secure_version,
            size_bytes=given.size_bytes,
        )
        given.output.write_bytes(image)
    except (InvalidInputError, OSError) as error:
        parser.error(str(error))
    sys.stdout.write(f"{hashlib.sha256(image).hexdigest()}  {given.output}\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
