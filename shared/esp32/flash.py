"""Merged flash images: a bootloader, a partition table and an app in one file, to be written to an empty flash.

As `esptool merge-bin` makes them, and MicroPython, ESPHome, Tasmota and Arduino publish them. Source: ESP-IDF,
"Partition Tables", and the choice of the app in its bootloader (bootloader_utility.c).
"""

from __future__ import annotations

import hashlib
import struct
import zlib
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final

from shared.esp32 import layout, secure_boot
from shared.esp32.descriptor import c_string
from shared.esp32.errors import ImageError

TABLE_MAGIC: Final = b"\xaa\x50"
_DIGEST_MAGIC: Final = b"\xeb\xeb"
_TABLE_BYTES: Final = 0xC00
_TABLE_OFFSET: Final = 0x8000
_SECTOR_BYTES: Final = 0x1000
_LOWEST_OFFSETS: Final = (0, 0x1000, 0x2000)
"""Where files begin in the flash: at its start, or with the bootloader of an ESP32 or an ESP32-C5 or -P4."""
# magic, type, subtype, offset, size, label, flags
_ENTRY: Final = struct.Struct("<2sBBII16sI")
_APP, _DATA = 0, 1
_FACTORY, _OTA_0, _OTA_END = 0x00, 0x10, 0x20
_OTA_DATA: Final = 0x00
# sequence number, reserved label, state, CRC of the sequence number
_OTA_SELECT: Final = struct.Struct("<I20sII")
_UNUSABLE_STATES: Final = (3, 4)
_ERASED: Final = 0xFFFFFFFF


@dataclass(frozen=True, slots=True)
class FlashApp:
    """The app in a merged flash image: its partition, and offset and length of its image in the file."""

    partition: str
    offset: int
    size_bytes: int


@dataclass(frozen=True, slots=True)
class _Partition:
    type: int
    subtype: int
    offset: int
    size_bytes: int
    label: str


def is_flash_image(data: bytes) -> bool:
    """Return whether a file has a partition table that is not at its start."""
    return any(True for _ in _tables(data))


def app_in(data: bytes) -> FlashApp | None:
    """Return the app that would boot from a merged flash image; None if there is none, or it is no such image.

    As in the bootloader, that is the one chosen in the partition otadata, else `factory`, else the first.
    """
    for table_offset, table in _tables(data):
        # A table does not hold its own address. Its default is tried first, then the sector before all partitions.
        guesses = (_TABLE_OFFSET, min(it.offset for it in table) - _SECTOR_BYTES)
        starts = (*(guess - table_offset for guess in guesses), *_LOWEST_OFFSETS)
        for start in dict.fromkeys(starts):
            if (app := _app(data, table, start)) is not None:
                return app
    return None


def _tables(data: bytes) -> Iterator[tuple[int, list[_Partition]]]:
    for offset in range(_SECTOR_BYTES, len(data), _SECTOR_BYTES):
        if data.startswith(TABLE_MAGIC, offset) and (table := _table(data[offset : offset + _TABLE_BYTES])):
            yield offset, table


def _table(data: bytes) -> list[_Partition]:
    """Return the partitions of a table, none if an offset, its end or its MD5 is wrong."""
    partitions: list[_Partition] = []
    for offset in range(0, len(data) - _ENTRY.size + 1, _ENTRY.size):
        magic, kind, subtype, start, size_bytes, label, _ = _ENTRY.unpack_from(data, offset)
        if magic == _DIGEST_MAGIC:
            digest = hashlib.md5(data[:offset], usedforsecurity=False).digest()
            return partitions if data[offset + 16 : offset + 32] == digest else []
        if magic != TABLE_MAGIC or start % _SECTOR_BYTES:
            return partitions if magic == b"\xff\xff" else []
        partitions.append(_Partition(kind, subtype, start, size_bytes, c_string(label)))
    return partitions


def _app(data: bytes, table: list[_Partition], start: int) -> FlashApp | None:
    """Return the app of a file whose first byte belongs at `start` in the flash."""
    apps = sorted((it for it in table if it.type == _APP), key=lambda it: it.subtype)
    slots = [it for it in apps if _OTA_0 <= it.subtype < _OTA_END]
    chosen = [slots[(number - 1) % len(slots)] for number in _sequence_numbers(data, table, start) if slots]
    for partition in (*chosen, *apps):
        offset = partition.offset - start
        if offset >= 0 and (size_bytes := _size_bytes(data[offset : offset + partition.size_bytes])):
            return FlashApp(partition.label, offset, size_bytes)
    return None


def _sequence_numbers(data: bytes, table: list[_Partition], start: int) -> list[int]:
    """Return the valid sequence numbers in the partition otadata, the one in force first."""
    numbers = []
    for partition in table:
        if (partition.type, partition.subtype) != (_DATA, _OTA_DATA):
            continue
        for offset in (partition.offset - start, partition.offset - start + _SECTOR_BYTES):
            if 0 <= offset <= len(data) - _OTA_SELECT.size:
                number, _, state, crc = _OTA_SELECT.unpack_from(data, offset)
                right = zlib.crc32(number.to_bytes(4, "little"), _ERASED)
                if number != _ERASED and state not in _UNUSABLE_STATES and crc == right:
                    numbers.append(number)
    return sorted(numbers, reverse=True)


def _size_bytes(partition: bytes) -> int:
    """Return the length of the image in a partition, with its signatures; 0 if there is none."""
    try:
        end = layout.read(partition).end
    except ImageError:
        return 0
    return end + secure_boot.size_bytes(partition, end)
