"""The hashes by which a device may say which image it runs."""

from __future__ import annotations

from sqlalchemy import ColumnElement
from sqlalchemy.orm import InstrumentedAttribute

from shared.database.tables import FirmwareImage


def is_hash_of(said: InstrumentedAttribute[str | None], image: type[FirmwareImage]) -> ColumnElement[bool]:
    """Return the condition that a hash is one of those by which devices name an image."""
    return said.in_([image.sha256, image.app_sha256, image.elf_sha256])


def hashes_of(image: FirmwareImage) -> frozenset[str]:
    """Return the hashes by which a device may say that it runs this image."""
    return frozenset(filter(None, (image.sha256, image.app_sha256, image.elf_sha256)))
