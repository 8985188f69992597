"""Configuration documents from the command line: JSON files, and KEY=VALUE with dots for nested keys."""

from __future__ import annotations

import json
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from cli import passwords
from shared.errors import InvalidInputError
from shared.protocol import numbers


def read(path: Path, *, field: str) -> dict[str, Any]:
    """Return the JSON object in a file, or raise InvalidInputError naming `field` and the place."""
    try:
        # Also with a byte order mark or in UTF-16, as Windows writes it: of bytes `json` finds that out.
        document = _loads(path.read_bytes(), field=field)
    except OSError as error:
        raise InvalidInputError(f"{field}: {path} cannot be read: {error.strerror}") from error
    except ValueError as error:
        raise InvalidInputError(f"{field}: {path} is not valid JSON: {error}") from error
    if not isinstance(document, dict):
        kind = type(document).__name__
        raise InvalidInputError(f"{field}: {path} must contain a JSON object, contains a {kind}")
    return document


def assign(assignments: Iterable[str]) -> dict[str, Any]:
    """Return the document given by KEY=VALUE strings.

    A value is JSON if it parses as JSON, else a string; dots separate nested keys. Raise InvalidInputError for a
    part without "=", an empty key and a duplicate key.
    """
    document: dict[str, Any] = {}
    for assignment in assignments:
        key, equals, text = assignment.partition("=")
        names = key.split(".")
        if not equals or not all(names):
            raise InvalidInputError(f"KEY=VALUE: expected a form such as wifi.ssid=home, found {assignment!r}")
        place = document
        for depth, name in enumerate(names[:-1], start=1):
            inner = place.setdefault(name, {})
            if not isinstance(inner, dict):
                taken = ".".join(names[:depth])
                raise InvalidInputError(f"{key}: {taken} already has a value")
            place = inner
        if names[-1] in place:
            raise InvalidInputError(f"{key}: given twice")
        place[names[-1]] = _value(text, field=key)
    return document


def given(assignments: list[str] | None, file: Path | None, secrets: list[str] | None) -> dict[str, Any]:
    """Return the document in a file, or in KEY=VALUE strings and keys whose values are read without echo.

    Raise InvalidInputError unless one is given.
    """
    if bool(assignments or secrets) == (file is not None):
        raise InvalidInputError("expected either KEY=VALUE... or --file FILE.json")
    if file is not None:
        return read(file, field="file")
    parts = list(assignments or [])
    for key in secrets or []:
        value = passwords.line(key, missing=f"{key}: pass its value on standard input")
        parts.append(f"{key}={json.dumps(value.get_secret_value())}")
    return assign(parts)


def _value(text: str, *, field: str) -> object:
    try:
        return _loads(text, field=field)
    except ValueError:
        return text


def _loads(text: str | bytes, *, field: str) -> object:
    """Return the parsed JSON; raise ValueError if it is none, InvalidInputError for a number that would change."""
    try:
        fault = numbers.inexact(text)
        if fault is not None:
            raise InvalidInputError(f"{field}: {fault}")
        return json.loads(text, parse_constant=_refuse)
    except RecursionError:
        raise ValueError("nested too deeply") from None


def _refuse(constant: str) -> None:
    raise ValueError(f"{constant} is not JSON")
