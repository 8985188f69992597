"""Patterns of JSON Schema, searched by RE2 in linear time."""

from __future__ import annotations

import re
from functools import lru_cache
from typing import Final, Protocol

import re2

_UNICODE_ESCAPE: Final = re.compile(r"\\(?:u([0-9A-Fa-f]{4})|u\{([0-9A-Fa-f]+)\}|(.))", re.DOTALL)


class Pattern(Protocol):
    """A compiled pattern, of either engine."""

    def search(self, text: str) -> object:
        """Return a true value if the pattern is found anywhere in the text."""
        ...


def linear(pattern: str) -> Pattern:
    """Compile a pattern of ECMA 262 for RE2, or raise ValueError naming what RE2 does not support."""
    options = re2.Options()
    options.log_errors = False
    options.never_capture = True
    # ECMA's \u00e9 is RE2's \x{00e9}; any other escaped character stays as it is.
    text = _UNICODE_ESCAPE.sub(lambda it: rf"\x{{{it[1] or it[2]}}}" if it[1] or it[2] else it[0], pattern)
    try:
        made: Pattern = re2.compile(text, options)
    except re2.error as error:
        reason = error.args[0]
        raise ValueError(reason.decode() if isinstance(reason, bytes) else reason) from None
    return made


@lru_cache(maxsize=64)
def compiled(pattern: str) -> Pattern:
    """Return a pattern; one that RE2 does not support is in a schema that predates this rule."""
    try:
        return linear(pattern)
    except ValueError:
        return re.compile(pattern)
