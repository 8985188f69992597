"""Where the parts of an ESP32 image are: its header, its segments and its end.

Source: ESP-IDF, "App Image Format" (esp_image_header_t, esp_image_segment_header_t), and esptool's bin_image.py;
all integers are little-endian. Bootloaders have the same layout.
"""

from __future__ import annotations

import struct
from dataclasses import dataclass
from typing import Final

from shared.esp32.chips import CHIPS, IMAGE_MAGIC, ChipKind
from shared.esp32.errors import ImageError

MAX_SEGMENTS: Final = 16
DIGEST_BYTES: Final = 32

# magic, segment count, flash mode, flash size and speed, entry point, write-protect pin, drive settings,
# chip id, old minimal revision, minimal and maximal revision, reserved, hash appended
_HEADER: Final = struct.Struct("<BBBBI B3s H BHH 4s B")
_SEGMENT: Final = struct.Struct("<II")
_CHECKSUM_BLOCK: Final = 16
_ANY_REVISION: Final = (0, 0xFFFF)


@dataclass(frozen=True, slots=True)
class Segment:
    """A segment of an image: offset and length of its data in the file, and its load address."""

    offset: int
    size_bytes: int
    load_address: int


@dataclass(frozen=True, slots=True)
class Layout:
    """The layout of an image; signatures and padding may follow its `end`.

    Revisions are 100 times the major one plus the minor one; the maximal one is None if there is no limit.
    """

    chip: ChipKind
    entry_point: int
    min_chip_revision: int
    max_chip_revision: int | None
    segments: tuple[Segment, ...]
    hash_appended: bool
    checksum_offset: int
    end: int


def read(data: bytes) -> Layout:
    """Return the layout of the image at the start of `data`, or raise ImageError for the first broken rule."""
    if len(data) < _HEADER.size:
        raise ImageError("size_bytes", found=len(data), expected=f"at least {_HEADER.size}, a header")
    magic, count, _, _, entry, _, _, chip_id, _, min_rev, max_rev, _, appended = _HEADER.unpack_from(data)
    if magic != IMAGE_MAGIC:
        raise ImageError("magic", found=f"0x{magic:02X}", expected=f"0x{IMAGE_MAGIC:02X}, an ESP32 image")
    if not 1 <= count <= MAX_SEGMENTS:
        raise ImageError("segment_count", found=count, expected=f"1 to {MAX_SEGMENTS}")
    if chip_id not in CHIPS:
        known = ", ".join(f"{number} ({chip.name})" for number, chip in CHIPS.items())
        raise ImageError("chip_id", found=chip_id, expected=f"one of {known}")
    if appended not in (0, 1):
        raise ImageError("hash_appended", found=appended, expected="0 or 1")
    segments = _segments(data, count)
    behind = segments[-1].offset + segments[-1].size_bytes
    # The checksum is the last byte of the 16-byte block in which, or after which, the segments end.
    checked = behind - behind % _CHECKSUM_BLOCK + _CHECKSUM_BLOCK
    end = checked + appended * DIGEST_BYTES
    if len(data) < end:
        raise ImageError("size_bytes", found=len(data), expected=f"{end}: the file is cut short")
    return Layout(
        chip=CHIPS[chip_id],
        entry_point=entry,
        min_chip_revision=min_rev,
        max_chip_revision=None if max_rev in _ANY_REVISION else max_rev,
        segments=segments,
        hash_appended=bool(appended),
        checksum_offset=checked - 1,
        end=end,
    )


def _segments(data: bytes, count: int) -> tuple[Segment, ...]:
    segments = []
    offset = _HEADER.size
    for index in range(count):
        field = f"segments.{index}"
        left = len(data) - offset - _SEGMENT.size
        if left < 0:
            raise ImageError(field, found=f"the file's end at {len(data)}", expected=f"a header at {offset}")
        load_address, size_bytes = _SEGMENT.unpack_from(data, offset)
        if size_bytes % 4:
            raise ImageError(f"{field}.size_bytes", found=size_bytes, expected="a multiple of 4")
        if size_bytes > left:
            raise ImageError(f"{field}.size_bytes", found=size_bytes, expected=f"at most {left}, the rest")
        offset += _SEGMENT.size
        segments.append(Segment(offset, size_bytes, load_address))
        offset += size_bytes
    return tuple(segments)
