"""Devices' messages, read field by field: an optional field that breaks a rule is a flaw, and is left out."""

from __future__ import annotations

import re
from typing import Any, Final, NamedTuple, TypeVar

from pydantic import TypeAdapter, ValidationError
from pydantic_core import ErrorDetails, from_json, to_json

from shared.protocol import wording

M = TypeVar("M")
_RULE_MAX = 200
_FIELD_MAX: Final = 60
MOST: Final = 20
"""Limit of flaws of a message: where the device chooses the names of fields, it may send any number."""
_BARE: Final = re.compile(r"(?<=[:,\[\s])[-+]?(?:nan|inf(?:inity)?)(?=[,\]}\s])", re.IGNORECASE)
"""A number as C's printf writes it when it is none (C99, 7.19.6.1), which is no JSON."""


class Flaw(NamedTuple):
    """A field of a device's message that was left out, and the rule that it breaks."""

    field: str
    rule: str


def faults(error: ValidationError) -> list[ErrorDetails]:
    """Return the violations of an error, without the values: these may be secrets."""
    return error.errors(include_url=False, include_input=False, include_context=False)


def read(reader: TypeAdapter[M], payload: bytes) -> tuple[M, list[Flaw]]:
    """Return the message in `payload` and its flaws; raise ValidationError if a mandatory field breaks a rule.

    Bytes that are no UTF-8, as in a text that a board has cut or got from elsewhere, become U+FFFD. A bare `nan`
    or `-inf` is a number that breaks its rule.
    """
    text = payload.decode(errors="replace")
    try:
        return reader.validate_json(text), []
    except ValidationError as error:
        refusal = error
    if (
        refusal.errors(include_url=False)[0]["type"] == "json_invalid"
        and (plain := _BARE.sub("NaN", text)) != text
    ):
        return read(reader, plain.encode())
    paths = {_path(fault): fault for fault in faults(refusal)}
    if () in paths:
        raise refusal
    document = from_json(text)
    # The longest first: what is above them may be left out, too.
    for *above, name in sorted(paths, key=len, reverse=True):
        holder = document
        for step in above:
            holder = holder[step]
        holder.pop(name, None)
    try:
        message = reader.validate_json(to_json(document))
    except ValidationError:
        raise refusal from None
    flaws = {_name(path): wording.rule(fault)[:_RULE_MAX] for path, fault in paths.items()}
    return message, [Flaw(field, broken) for field, broken in flaws.items()][:MOST]


def _path(fault: ErrorDetails) -> tuple[Any, ...]:
    """Return the path of the field of a violation: of the message, or of an item of one of its lists."""
    match fault["loc"]:
        case (str() as name, int() as place, str() as field, *_):
            return name, place, field
        case location:
            return location[:1]


def _name(path: tuple[Any, ...]) -> str:
    """Return a path as text that can be stored and shown, as a device may have chosen the name."""
    name = ".".join(step for step in path if isinstance(step, str))[:_FIELD_MAX]
    return "".join(it if it.isprintable() else "\ufffd" for it in name)
