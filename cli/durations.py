"""Durations on the command line."""

from __future__ import annotations

import re
from typing import Final

from shared.errors import InvalidInputError

TIMEOUT_S: Final = 30.0
"""Time to wait for an answer."""
_UNITS_S: Final = {"s": 1, "m": 60, "h": 3600, "d": 24 * 3600}
_DURATION: Final = re.compile(r"([0-9]{1,9})([smhd])")


def seconds(text: str, *, field: str) -> int:
    """Return the seconds of a duration such as `30m`, `12h` or `1d`; raise InvalidInputError naming the field."""
    found = _DURATION.fullmatch(text)
    if found is None:
        raise InvalidInputError(f"{field}: must be a whole number with s, m, h or d, such as 12h")
    return int(found[1]) * _UNITS_S[found[2]]
