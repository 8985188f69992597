"""ESP32 application images: their metadata and all rules of their format.

Source: ESP-IDF, "App Image Format" (esp_image_header_t, esp_image_segment_header_t, esp_app_desc_t), and
esptool's bin_image.py; all integers are little-endian.
"""

from __future__ import annotations

import hashlib
import struct
from dataclasses import dataclass
from typing import Final

from shared.errors import InvalidInputError
from shared.esp32.chips import CHIPS, DESCRIPTOR_MAGIC, IMAGE_MAGIC

MAX_SEGMENTS: Final = 16

# magic, segment count, flash mode, flash size and speed, entry point, write-protect pin, drive settings,
# chip id, revisions, reserved, hash appended
_HEADER: Final = struct.Struct("<BBBBI B3s H BHH 4s B")
_SEGMENT: Final = struct.Struct("<II")
# magic, secure version, reserved, version, project, time, date, ESP-IDF version, ELF sha256, reserved
_DESCRIPTOR: Final = struct.Struct("<II8s 32s32s 16s16s 32s 32s 80s")
_DESCRIPTOR_OFFSET: Final = _HEADER.size + _SEGMENT.size
_CHECKSUM_SEED: Final = 0xEF
_CHECKSUM_BLOCK: Final = 16
_DIGEST_BYTES: Final = 32


class ImageError(InvalidInputError):
    """An image breaks a rule of its format or of its model.

    The details are `field` (which part of the image), `found` and `expected`.
    """

    def __init__(self, field: str, *, found: object, expected: object) -> None:
        super().__init__(
            f"{field}: expected {expected}, found {found}", field=field, found=found, expected=expected
        )


@dataclass(frozen=True, slots=True)
class Segment:
    """A segment of an image: offset and length of its data in the file, and its load address."""

    offset: int
    size_bytes: int
    load_address: int


@dataclass(frozen=True, slots=True)
class Image:
    """A valid application image, as its header and its descriptor describe it.

    `sha256` is of the whole file, `elf_sha256` (hex) identifies the ELF file that it was built from.
    """

    chip: str
    chip_id: int
    version: str
    project: str
    secure_version: int
    idf_version: str
    compile_date: str
    compile_time: str
    elf_sha256: str
    size_bytes: int
    sha256: str
    segments: tuple[Segment, ...]
    hash_appended: bool
    entry_point: int


@dataclass(frozen=True, slots=True)
class _Descriptor:
    secure_version: int
    version: str
    project: str
    compile_time: str
    compile_date: str
    idf_version: str
    elf_sha256: str


def parse(data: bytes) -> Image:
    """Parse `data`, a whole file; raise ImageError for the first rule that it breaks."""
    count, entry_point, chip_id, hash_appended = _header(data)
    segments = _segments(data, count)
    descriptor = _descriptor(data, segments[0])
    _check_end(data, segments, hash_appended=hash_appended)
    return Image(
        chip=CHIPS[chip_id],
        chip_id=chip_id,
        version=descriptor.version,
        project=descriptor.project,
        secure_version=descriptor.secure_version,
        idf_version=descriptor.idf_version,
        compile_date=descriptor.compile_date,
        compile_time=descriptor.compile_time,
        elf_sha256=descriptor.elf_sha256,
        size_bytes=len(data),
        sha256=hashlib.sha256(data).hexdigest(),
        segments=segments,
        hash_appended=hash_appended,
        entry_point=entry_point,
    )


def check_for(
    image: Image, *, chip: str, slot_size_bytes: int, version_label: str | None, model_code: str | None = None
) -> None:
    """Raise ImageError unless the image runs on `chip`, fits the slot and has the `version_label`, if given.

    `model_code` is used in the message only.
    """
    whose = f" of model {model_code}" if model_code else ""
    if image.chip != chip:
        raise ImageError("chip", found=image.chip, expected=f"the chip{whose}, {chip}")
    if image.size_bytes > slot_size_bytes:
        expected = f"at most the slot{whose}, {slot_size_bytes} bytes"
        raise ImageError("size_bytes", found=image.size_bytes, expected=expected)
    if version_label is not None and image.version != version_label:
        expected = f"the version embedded in the image, {image.version}"
        raise ImageError("version", found=version_label, expected=expected)


def _header(data: bytes) -> tuple[int, int, int, bool]:
    """Return the number of segments, the entry point, the chip's id and whether a SHA-256 is appended."""
    least = _DESCRIPTOR_OFFSET + _DESCRIPTOR.size
    if len(data) < least:
        raise ImageError("size_bytes", found=len(data), expected=f"at least {least}")
    magic, count, _, _, entry_point, _, _, chip_id, _, _, _, _, hash_appended = _HEADER.unpack_from(data)
    if magic != IMAGE_MAGIC:
        raise ImageError("magic", found=f"0x{magic:02X}", expected=f"0x{IMAGE_MAGIC:02X}, an ESP32 image")
    if not 1 <= count <= MAX_SEGMENTS:
        raise ImageError("segment_count", found=count, expected=f"1 to {MAX_SEGMENTS}")
    if chip_id not in CHIPS:
        known = ", ".join(f"{number} ({chip})" for number, chip in CHIPS.items())
        raise ImageError("chip_id", found=chip_id, expected=f"one of {known}")
    if hash_appended not in (0, 1):
        raise ImageError("hash_appended", found=hash_appended, expected="0 or 1")
    return count, entry_point, chip_id, bool(hash_appended)


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


def _descriptor(data: bytes, first: Segment) -> _Descriptor:
    if first.size_bytes < _DESCRIPTOR.size:
        expected = f"at least {_DESCRIPTOR.size}, to hold the app descriptor"
        raise ImageError("segments.0.size_bytes", found=first.size_bytes, expected=expected)
    unpacked = _DESCRIPTOR.unpack_from(data, _DESCRIPTOR_OFFSET)
    magic, secure_version, _, version, project, time, date, idf_version, elf_sha256, _ = unpacked
    if magic != DESCRIPTOR_MAGIC:
        raise ImageError("descriptor.magic", found=f"0x{magic:08X}", expected=f"0x{DESCRIPTOR_MAGIC:08X}")
    label = _text("descriptor.version", version)
    if not label:
        raise ImageError("descriptor.version", found=repr(label), expected="1 to 31 characters")
    return _Descriptor(
        secure_version=secure_version,
        version=label,
        project=_text("descriptor.project", project),
        compile_time=_text("descriptor.compile_time", time),
        compile_date=_text("descriptor.compile_date", date),
        idf_version=_text("descriptor.idf_version", idf_version),
        elf_sha256=elf_sha256.hex(),
    )


def _text(field: str, raw: bytes) -> str:
    """Return the C string in a fixed-size field; bytes after its NUL are ignored."""
    value, end, _ = raw.partition(b"\x00")
    if not end:
        raise ImageError(field, found=repr(raw), expected=f"a NUL within {len(raw)} bytes")
    text = value.decode("ascii", "replace")
    if not (text.isascii() and text.isprintable()):
        raise ImageError(field, found=repr(value), expected="printable ASCII")
    return text


def _check_end(data: bytes, segments: tuple[Segment, ...], *, hash_appended: bool) -> None:
    """Check what follows the segments: padding, checksum, the SHA-256 if announced, nothing more."""
    end = segments[-1].offset + segments[-1].size_bytes
    # The checksum is the last byte of the 16-byte block in which, or after which, the segments end.
    checked = end - end % _CHECKSUM_BLOCK + _CHECKSUM_BLOCK
    total = checked + (_DIGEST_BYTES if hash_appended else 0)
    if len(data) < total:
        raise ImageError("size_bytes", found=len(data), expected=f"{total}: the file is cut short")
    if len(data) > total:
        raise ImageError("size_bytes", found=len(data), expected=f"{total}: nothing may follow the image")
    checksum = _checksum(data, segments)
    if data[checked - 1] != checksum:
        raise ImageError("checksum", found=f"0x{data[checked - 1]:02X}", expected=f"0x{checksum:02X}")
    if hash_appended:
        digest = hashlib.sha256(data[:checked]).hexdigest()
        if data[checked:] != bytes.fromhex(digest):
            raise ImageError("appended_sha256", found=data[checked:].hex(), expected=digest)


def _checksum(data: bytes, segments: tuple[Segment, ...]) -> int:
    """Return the XOR of the seed and of every byte of all segments."""
    checksum = _CHECKSUM_SEED
    for segment in segments:
        # Halves are folded onto each other as big integers: bytewise, 16 MiB would block for over a second.
        folded = int.from_bytes(data[segment.offset : segment.offset + segment.size_bytes], "little")
        width = segment.size_bytes
        while width > 1:
            width = (width + 1) // 2
            folded = (folded >> 8 * width) ^ (folded & ((1 << 8 * width) - 1))
        checksum ^= folded
    return checksum
