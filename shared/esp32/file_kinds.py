"""Files that people take for an application image, recognised by their first bytes."""

from __future__ import annotations

import re
import struct
import zlib
from collections.abc import Callable
from typing import Final

from shared.esp32 import flash

# What begins a file, at which offset. Sources: the formats' specifications; ESP-IDF for those of ESP32 boards.
_MAGICS: Final[tuple[tuple[int, bytes, str], ...]] = (
    (0, b"\xea\x04", "an image for the ESP8266"),
    (0, b"\x7fELF", "an ELF file, of which `esptool elf2image` makes an image"),
    (0, b"UF2\n\x57\x51\x5d\x9e", "a UF2 file"),
    (0, b"\x1f\x8b", "a file compressed with gzip"),
    (0, b"PK\x03\x04", "a ZIP archive"),
    (0, b"PK\x05\x06", "an empty ZIP archive"),
    (0, b"\xfd7zXZ\x00", "a file compressed with xz"),
    (0, b"BZh", "a file compressed with bzip2"),
    (0, b"\x28\xb5\x2f\xfd", "a file compressed with zstd"),
    (0, b"\x04\x22\x4d\x18", "a file compressed with LZ4"),
    (0, b"7z\xbc\xaf\x27\x1c", "a 7-Zip archive"),
    (0, b"Rar!\x1a\x07", "a RAR archive"),
    (257, b"ustar", "a tar archive"),
    (0, b"\x3d\xb8\xf3\x96", "an image for MCUboot, as of Zephyr or NuttX"),
    (0, flash.TABLE_MAGIC, "a partition table"),
    (0, b"\xe7\x02\x00\x00", "signatures for Secure Boot V2"),
    (0, b"\xe7\x03\x00\x00", "signatures for Secure Boot V2"),
    (0, b"\xe7\x03\x01\x00", "signatures for Secure Boot V2"),
    (8, b"littlefs", "a LittleFS file system"),
    (4096 + 8, b"littlefs", "a LittleFS file system"),
    (54, b"FAT", "a FAT file system"),
    (82, b"FAT32", "a FAT file system"),
)
_INTEL_HEX: Final = re.compile(rb":(?:[0-9A-Fa-f]{2}){5,}\r?\n")
_TEXT: Final = re.compile(rb"[\t\n\r -~]{32,}")
_ESP8266_HEADERS: Final = struct.Struct("<8x II")
_ESP8266_SEGMENTS: Final = range(0x3FFE8000, 0x40300000)
# A page's header or an entry of otadata: the CRC of some of its bytes, at its end.
_CHECKED: Final = struct.Struct("<28s I")
_SPIFFS_BLOCK_BYTES: Final = 4096
_SPIFFS_MAGIC: Final = 0x0529 ^ 256
_SPIFFS_MAGIC_OFFSET: Final = 252


def describe(data: bytes) -> str | None:
    """Return what a file is that is no application image, None if that is unknown."""
    if flash.is_flash_image(data):
        app = flash.app_in(data)
        if app is None:
            return "a flash image without an app"
        place = f"{app.size_bytes} bytes at offset 0x{app.offset:x}"
        way = "`mdm firmware upload --extract-app` takes it out"
        return f"a merged flash image, whose app is {place}, in partition {app.partition}; {way}"
    if data.startswith(b"\xe9"):
        return "an image for the ESP8266" if _is_esp8266(data) else None
    for offset, magic, kind in _MAGICS:
        if data.startswith(magic, offset):
            return kind
    return next((kind for is_kind, kind in _CHECKS if is_kind(data)), None)


def _is_esp8266(data: bytes) -> bool:
    """Return whether a header of 8 bytes is followed by that of a segment in the chip's memory."""
    if len(data) < _ESP8266_HEADERS.size:
        return False
    address, size_bytes = _ESP8266_HEADERS.unpack_from(data)
    return address in _ESP8266_SEGMENTS and size_bytes <= len(data)


def _is_nvs(data: bytes) -> bool:
    return _is_checked(data, slice(4, 28))


def _is_otadata(data: bytes) -> bool:
    return _is_checked(data, slice(0, 4))


def _is_checked(data: bytes, part: slice) -> bool:
    if len(data) < _CHECKED.size:
        return False
    header, crc = _CHECKED.unpack_from(data)
    return bool(zlib.crc32(header[part], 0xFFFFFFFF) == crc)


def _is_spiffs(data: bytes) -> bool:
    # With pages of 256 bytes and blocks of 4 KiB, the default; the magic number may include the number of blocks.
    found = int.from_bytes(data[_SPIFFS_MAGIC_OFFSET : _SPIFFS_MAGIC_OFFSET + 2], "little")
    blocks = len(data) // _SPIFFS_BLOCK_BYTES & 0xFFFF
    return blocks > 0 and found in (_SPIFFS_MAGIC, _SPIFFS_MAGIC ^ blocks)


_CHECKS: Final[tuple[tuple[Callable[[bytes], object], str], ...]] = (
    (_is_otadata, "the content of the partition otadata"),
    (_is_nvs, "an NVS partition"),
    (_is_spiffs, "a SPIFFS file system"),
    (_INTEL_HEX.match, "an Intel HEX file"),
    (_TEXT.match, "text"),
    (lambda data: data and not data.strip(b"\xff"), "erased flash"),
)
