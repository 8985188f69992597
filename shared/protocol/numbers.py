"""Numbers of documents: each must come out of database and messages as it went in, or is refused.

Numbers are integers, which are exact in any length that is sent, or doubles. jsonb (PostgreSQL: Numeric Types)
writes a double out in digits, has no negative zero, and returns doubles of 1e16 or more as integers.
"""

from __future__ import annotations

import json
from decimal import Decimal, InvalidOperation
from typing import Final

_DIGITS_MAX: Final = 4300
"""Python's limit for integers."""
_FIRST_WITH_EXPONENT: Final = 1e16
"""Python, and so the services, write larger doubles with an exponent."""


class _Literal(str):
    """A number as it is written."""

    __slots__ = ()


def inexact(text: str | bytes) -> str | None:
    """Return the place in JSON of the first number that would change, and the rule that it breaks, or None."""
    return _inexact(json.loads(text, parse_float=_Literal, parse_int=_Literal), "")


def _inexact(value: object, place: str) -> str | None:
    if isinstance(value, _Literal):
        rule = _rule(value)
        return rule and f"{place.lstrip('.')}: {rule}".removeprefix(": ")
    parts = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    for name, part in parts:
        found = _inexact(part, f"{place}[{name}]" if isinstance(name, int) else f"{place}.{name}")
        if found is not None:
            return found
    return None


def _rule(written: str) -> str | None:
    """Return the rule that a number breaks, or None."""
    mantissa, _, exponent = written.lower().partition("e")
    if written.startswith("-") and not mantissa.strip("-0."):
        return f"{_short(written)}: zero must have no sign"
    if not exponent and "." not in mantissa:
        too_long = len(written.lstrip("-")) > _DIGITS_MAX
        return f"{_short(written)}: must have at most {_DIGITS_MAX} digits" if too_long else None
    kept = float(written)
    if abs(kept) >= _FIRST_WITH_EXPONENT:
        return f"{_short(written)}: a number of 1e16 or more must be an integer in digits"
    try:
        is_exact = Decimal(written) == Decimal(repr(kept))
    except InvalidOperation:
        is_exact = False
    return None if is_exact else f"{_short(written)}: would become {kept!r}, the nearest double; write that"


def _short(written: str, length: int = 50) -> str:
    return written if len(written) <= length else f"{written[:length]}…"
