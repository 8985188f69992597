"""Sealed values of configurations: those whose JSON Schema is `writeOnly`, shown to nobody but the device.

In the database a sealed value is the text "(sealed LABEL TOKEN)", elsewhere its placeholder "(sealed LABEL)". The
label is random and names one value, so that a placeholder that is saved keeps that value and no other.
"""

from __future__ import annotations

import re
from typing import Final, NamedTuple, TypeVar, cast

J = TypeVar("J")
_FORM: Final = re.compile(r"\(sealed ([0-9a-f]{12})(?: ([A-Za-z0-9_=-]+))?\)")


class SealedText(NamedTuple):
    """The parts of a sealed value's text; a placeholder has no token."""

    label: str
    token: str | None = None

    def __str__(self) -> str:
        return f"(sealed {' '.join(filter(None, self))})"


def parse(value: object) -> SealedText | None:
    """Return the parts of a sealed value or placeholder, or None for any other value."""
    found = _FORM.fullmatch(value) if isinstance(value, str) else None
    return SealedText(found[1], found[2]) if found else None


def shown(value: J) -> J:
    """Return JSON with a placeholder for each sealed value; idempotent."""
    return cast("J", _shown(value))


def _shown(value: object) -> object:
    if isinstance(value, dict):
        return {name: _shown(inner) for name, inner in value.items()}
    if isinstance(value, list):
        return [_shown(inner) for inner in value]
    text = parse(value)
    return value if text is None else str(SealedText(text.label))
