"""The parts of an ESP32 application image that a bootloader reads.

Source: esp_image_header_t and esp_app_desc_t of ESP-IDF.
"""

from __future__ import annotations

import struct
from dataclasses import dataclass
from typing import Final

from shared.errors import FleetError
from shared.esp32.chips import CHIPS, DESCRIPTOR_MAGIC, IMAGE_MAGIC

DESCRIPTOR_OFFSET: Final = 32
HEADER_BYTES: Final = 208
"""The number of bytes of a file that `read` needs."""


class ImageInvalidError(FleetError):
    """The bytes are not an application image for an ESP32."""

    code = "image_invalid"


@dataclass(frozen=True, slots=True)
class ImageDescription:
    """The metadata of an image; texts are empty where it has none, as `version` of MicroPython's."""

    version: str
    project: str
    chip: str
    secure_version: int
    elf_sha256: str
    """In hexadecimal digits; identifies the ELF file that the image was built from."""


def read(data: bytes) -> ImageDescription:
    """Return the metadata in the first HEADER_BYTES, or raise ImageInvalidError with the broken rule."""
    if len(data) < HEADER_BYTES:
        raise ImageInvalidError(f"image: must have at least {HEADER_BYTES} bytes, has {len(data)}")
    if data[0] != IMAGE_MAGIC:
        raise ImageInvalidError(f"image: must start with 0xE9, starts with 0x{data[0]:02X}")
    (chip_id,) = struct.unpack_from("<H", data, 12)
    if chip_id not in CHIPS:
        raise ImageInvalidError(f"image: chip id {chip_id} is unknown")
    magic, secure_version = struct.unpack_from("<II", data, DESCRIPTOR_OFFSET)
    if magic != DESCRIPTOR_MAGIC:
        return ImageDescription("", "", CHIPS[chip_id].name, 0, "")
    version, project = _text(data[48:80]), _text(data[80:112])
    return ImageDescription(version, project, CHIPS[chip_id].name, secure_version, data[176:208].hex())


def _text(field: bytes) -> str:
    text = field.partition(b"\0")[0].decode(errors="replace")
    return "".join(character if character.isprintable() else "\ufffd" for character in text)
