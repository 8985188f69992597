"""Sizes on the command line."""

from __future__ import annotations

import re
from typing import Final

from shared.errors import InvalidInputError

_UNITS: Final = {"": 1, "K": 1024, "M": 1024 * 1024}
_SIZE: Final = re.compile(r"([0-9]{1,9}(?:\.[0-9]{1,6})?) ?([KM]?)(?:i?B)?", re.IGNORECASE)


def in_bytes(text: str | None, *, field: str) -> int | None:
    """Return the bytes of a size such as `1572864`, `0x180000`, `1536K` or `1.5M`, as in partition tables.

    Raise InvalidInputError naming the field.
    """
    if text is None:
        return None
    found = _SIZE.fullmatch(text.strip())
    if re.fullmatch("0[xX][0-9A-Fa-f]{1,8}", text.strip()):
        return int(text, 16)
    size_bytes = float(found[1]) * _UNITS[found[2].upper()] if found else 0.5
    if not size_bytes.is_integer():
        raise InvalidInputError(
            f"{field}: must be a whole number of bytes, such as 1572864, 0x180000, 1536K or 1.5M"
        )
    return int(size_bytes)
