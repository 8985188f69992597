"""Errors in the words of a command: its options and arguments instead of the fields of the request."""

from __future__ import annotations

import re
from collections.abc import Callable
from functools import wraps
from typing import Any, Final

from shared.errors import FleetError

_FIELD: Final = re.compile(r"(?:(?<=^)|(?<=; ))(\w+(?:\.\w+)*(?:, \w+)*): ")


def named_in_errors(command: Any) -> Any:  # noqa: ANN401 - click's type of all commands is private
    """Let the errors of a command, or of the commands of a group, name its options; return it.

    A parameter of a command has the name of the field that it fills in.
    """
    for one in getattr(command, "commands", {}).values():
        named_in_errors(one)
    if command.callback is not None:
        command.callback = _renaming(command.callback, {one.name: _shown(one) for one in command.params})
    return command


def _renaming(callback: Callable[..., object], names: dict[str, str]) -> Callable[..., object]:
    @wraps(callback)
    def run(*arguments: object, **options: object) -> object:
        try:
            return callback(*arguments, **options)
        except FleetError as error:
            error.message = _FIELD.sub(lambda found: _replaced(found[1], names), error.message)
            raise

    return run


def _shown(parameter: Any) -> str:  # noqa: ANN401 - as above
    if parameter.param_type_name == "argument":
        return str(parameter.metavar or parameter.name).strip("[].").upper()
    return str(max(parameter.opts, key=len))


def _replaced(path: str, names: dict[str, str]) -> str:
    """Return the name of a field followed by a colon: `tags.0` becomes `--tag`, `message` nothing."""
    several = path.split(", ")
    found = ", ".join(next((names[name] for name in it.split(".") if name in names), it) for it in several)
    return "" if found == "message" else f"{found}: "
