"""Names of time zones."""

from __future__ import annotations

from functools import cache
from zoneinfo import available_timezones

WANTED = "must be the IANA name of a time zone, such as Europe/Berlin"


def is_known(name: str) -> bool:
    """Return whether a name is in the IANA database of this machine."""
    return name in _names()


@cache
def _names() -> frozenset[str]:
    """Read them once: they are some hundred files."""
    return frozenset(available_timezones())
