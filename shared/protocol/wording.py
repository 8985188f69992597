"""The rules of fields in words of our own, where pydantic's describe its types and patterns."""

from __future__ import annotations

import re
from typing import Any, Final

from pydantic import Field
from pydantic_core import ErrorDetails

_WORDS: Final[dict[str, str]] = {}
_OF_KIND: Final = {
    "missing": "is missing",
    "extra_forbidden": "is unknown",
    "string_type": "must be a text",
    "int_type": "must be a whole number",
    "int_parsing": "must be a whole number",
    "int_from_float": "must be a whole number",
    "float_parsing": "must be a number",
    "bool_parsing": "must be true or false",
    "bool_type": "must be true or false",
    "uuid_parsing": "must be a UUID",
    "timezone_aware": "must have a time zone",
}
_SHOULD: Final = re.compile(r"[A-Z][A-Za-z ]* should ")
_DETAIL: Final = re.compile(r", (unable to parse|got a|found) .*| after validation.*")
_COMPARED: Final = (("greater than or equal to", "at least"), ("less than or equal to", "at most"))


def pattern(expression: str, words: str, **limits: Any) -> Any:  # noqa: ANN401 - as pydantic's Field
    """Return a field whose text must match the expression, a rule that `words` describe to people."""
    _WORDS[expression] = words
    return Field(pattern=expression, **limits)


def rule(fault: ErrorDetails) -> str:
    """Return the rule of a violation, as text."""
    message = fault["msg"].removeprefix("Value error, ")
    if fault["type"] in _OF_KIND:
        return _OF_KIND[fault["type"]]
    if fault["type"] == "string_pattern_mismatch":
        expression = message.partition("'")[2].removesuffix("'")
        return _WORDS.get(expression, f"must match {expression}")
    for long, short in _COMPARED:
        message = message.replace(long, short)
    return _DETAIL.sub("", _SHOULD.sub("must ", message, count=1))
