"""The descriptor of an application: ESP-IDF's esp_app_desc_t, at the start of a segment."""

from __future__ import annotations

import struct
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Final

from shared.esp32.chips import DESCRIPTOR_MAGIC
from shared.esp32.layout import Segment

# magic, secure version, reserved, version, project, time, date, ESP-IDF version, ELF sha256, reserved
_DESCRIPTOR: Final = struct.Struct("<II8s 32s32s 16s16s 32s 32s 80s")
_MAGIC: Final = DESCRIPTOR_MAGIC.to_bytes(4, "little")
_UNKNOWN: Final = bytes(32)


@dataclass(frozen=True, slots=True)
class AppDescriptor:
    """The descriptor of an application; texts may be empty, as those of an image that has none.

    `elf_sha256` (hex) is None where the builder left it out.
    """

    secure_version: int = 0
    version: str = ""
    project: str = ""
    compile_time: str = ""
    compile_date: str = ""
    idf_version: str = ""
    elf_sha256: str | None = None


def c_string(raw: bytes) -> str:
    """Return the text of a field before its first NUL, if any; what is not UTF-8 or not printable is U+FFFD."""
    text = raw.partition(b"\x00")[0].decode("utf-8", "replace")
    return "".join(character if character.isprintable() else "\ufffd" for character in text)


def find(data: bytes, segments: Iterable[Segment]) -> AppDescriptor | None:
    """Return the descriptor of an image, or None if it has none."""
    for segment in segments:
        if segment.size_bytes >= _DESCRIPTOR.size and data.startswith(_MAGIC, segment.offset):
            return _read(data, segment.offset)
    return None


def _read(data: bytes, offset: int) -> AppDescriptor:
    _, secure_version, _, *texts, elf_sha256, _ = _DESCRIPTOR.unpack_from(data, offset)
    version, project, time, date, idf_version = map(c_string, texts)
    return AppDescriptor(
        secure_version=secure_version,
        version=version,
        project=project,
        compile_time=time,
        compile_date=date,
        idf_version=idf_version,
        elf_sha256=None if elf_sha256 == _UNKNOWN else elf_sha256.hex(),
    )
