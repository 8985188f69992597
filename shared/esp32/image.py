"""ESP32 application images: their metadata and all rules of their format.

Source: ESP-IDF, "App Image Format", and esptool's bin_image.py. What esptool's image-info and espsecure take for
valid is valid here too, except what a device could not boot or an update over the air could not use.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from typing import Final

from shared.esp32 import descriptor as app_descriptor
from shared.esp32 import file_kinds, secure_boot
from shared.esp32 import layout as image_layout
from shared.esp32.errors import ImageError
from shared.esp32.layout import Layout, Segment
from shared.esp32.secure_boot import SignatureBlock

_CHECKSUM_SEED: Final = 0xEF


@dataclass(frozen=True, slots=True)
class Image:
    """A valid application image, as its header and its descriptor describe it.

    `sha256` is of the whole file, `app_sha256` the digest appended to the image (None without), `elf_sha256`
    identifies the ELF file that it was built from (None if unknown); all in hex. `embedded_version` and the other
    texts may be empty. Chip revisions are 100 times the major one plus the minor one; None is no limit.
    """

    chip: str
    chip_id: int
    embedded_version: str
    project: str
    secure_version: int
    idf_version: str
    compile_date: str
    compile_time: str
    elf_sha256: str | None
    app_sha256: str | None
    min_chip_revision: int
    max_chip_revision: int | None
    size_bytes: int
    sha256: str
    segments: tuple[Segment, ...]
    entry_point: int
    signatures: tuple[SignatureBlock, ...]


def parse(data: bytes) -> Image:
    """Parse `data`, a whole file; raise ImageError with what it is instead, or the first rule that it breaks."""
    try:
        return _parse(data)
    except ImageError as error:
        kind = file_kinds.describe(data)
        if kind is None:
            raise
        raise ImageError("file", found=kind, expected="an application image") from error


def check_for(image: Image, *, chip: str, slot_size_bytes: int, model_code: str | None = None) -> None:
    """Raise ImageError unless an image runs on `chip` and fits the slot; `model_code` is for the message only."""
    whose = f" of model {model_code}" if model_code else ""
    if image.chip != chip:
        raise ImageError("chip", found=image.chip, expected=f"the chip{whose}, {chip}")
    if image.size_bytes > slot_size_bytes:
        expected = f"at most the slot{whose}, {slot_size_bytes} bytes"
        raise ImageError("size_bytes", found=image.size_bytes, expected=expected)


def label(image: Image, given: str | None) -> str:
    """Return the label of an image, the given one or the embedded version; raise ImageError if it has none.

    Spaces around it do not count, as nobody sees them.
    """
    # What is not ASCII cannot be sent as a version.
    found = (given or (image.embedded_version if image.embedded_version.isascii() else "")).strip()
    if not found:
        expected = "a label given at the upload (--version), as the image has none in ASCII"
        raise ImageError("version", found=repr(image.embedded_version), expected=expected)
    return found


def revision(value: int) -> str:
    """Return a chip revision as people write it: v3.1 for 301."""
    return f"v{value // 100}.{value % 100}"


def _parse(data: bytes) -> Image:
    layout = image_layout.read(data)
    found = app_descriptor.find(data, layout.segments)
    if found is None and not any(layout.chip.maps_flash_at(it.load_address) for it in layout.segments):
        kind = "a bootloader, or another program that runs from RAM alone"
        raise ImageError("file", found=kind, expected="an application image")
    app_sha256 = _check(data, layout)
    signatures = secure_boot.read(data, layout.end)
    _check_end(data, layout.end, layout.end + secure_boot.size_bytes(data, layout.end))
    descriptor = found or app_descriptor.AppDescriptor()
    return Image(
        chip=layout.chip.name,
        chip_id=layout.chip.image_id,
        embedded_version=descriptor.version,
        project=descriptor.project,
        secure_version=descriptor.secure_version,
        idf_version=descriptor.idf_version,
        compile_date=descriptor.compile_date,
        compile_time=descriptor.compile_time,
        elf_sha256=descriptor.elf_sha256,
        app_sha256=app_sha256,
        min_chip_revision=layout.min_chip_revision,
        max_chip_revision=layout.max_chip_revision,
        size_bytes=len(data),
        sha256=hashlib.sha256(data).hexdigest(),
        segments=layout.segments,
        entry_point=layout.entry_point,
        signatures=signatures,
    )


def _check(data: bytes, layout: Layout) -> str | None:
    """Check checksum and appended digest; return the digest, if there is one."""
    checksum, found = _checksum(data, layout.segments), data[layout.checksum_offset]
    if found != checksum:
        raise ImageError("checksum", found=f"0x{found:02X}", expected=f"0x{checksum:02X}")
    if not layout.hash_appended:
        return None
    digest = hashlib.sha256(data[: layout.checksum_offset + 1]).hexdigest()
    appended = data[layout.checksum_offset + 1 : layout.end].hex()
    if appended != digest:
        raise ImageError("appended_sha256", found=appended, expected=digest)
    return digest


def _check_end(data: bytes, image_end: int, end: int) -> None:
    """Check that nothing follows the signatures, and nothing but erased flash an image without signatures."""
    rest = data[end:] if end > image_end else data[end:].lstrip(b"\xff")
    if not rest:
        return
    kind = file_kinds.describe(rest) or f"data that begins with {rest[:4].hex()}"
    found = f"{len(data)}, with {kind} at {len(data) - len(rest)}"
    expected = (
        f"{end}: nothing may follow the image but padding of 0xFF or, at the next multiple of 4096, signatures"
    )
    raise ImageError("size_bytes", found=found, expected=expected)


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
