"""Formats of JSON Schema that are checked in documents, as their RFCs have them; a schema may name no others."""

from __future__ import annotations

import re
from collections.abc import Callable
from datetime import date, datetime, time
from typing import Final
from urllib.parse import urlsplit

from jsonschema import FormatChecker

CHECKED: Final = FormatChecker(formats=("email", "ipv4", "ipv6", "uuid"))
_TIME: Final = r"\d\d:\d\d:\d\d(\.\d+)?([Zz]|[+-]\d\d:\d\d)"
_LABEL: Final = "[A-Za-z0-9]([A-Za-z0-9-]{0,61}[A-Za-z0-9])?"
_CHARACTER: Final = r"[A-Za-z0-9._~:/?#\[\]@!$&'()*+,;=-]"


def _check(name: str, pattern: str, rule: Callable[[str], object]) -> None:
    """Check a format by a pattern of ASCII characters, and by a rule that raises ValueError."""
    compiled = re.compile(pattern, re.ASCII)

    def fits(value: object) -> bool:
        if not isinstance(value, str):
            return True
        is_formed = compiled.fullmatch(value) is not None
        if is_formed:
            rule(value)
        return is_formed

    CHECKED.checks(name, raises=ValueError)(fits)


_check("date", r"\d{4}-\d\d-\d\d", date.fromisoformat)
_check("time", _TIME, lambda text: time.fromisoformat(text.upper()))
_check("date-time", rf"\d{{4}}-\d\d-\d\d[Tt]{_TIME}", lambda text: datetime.fromisoformat(text.upper()))
_check("hostname", rf"(?=.{{1,253}}\Z){_LABEL}(\.{_LABEL})*", str)
_check("uri", rf"[A-Za-z][A-Za-z0-9+.-]*:({_CHARACTER}|%[0-9A-Fa-f]{{2}})*", lambda text: urlsplit(text).port)
