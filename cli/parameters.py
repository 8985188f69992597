"""What all parameters of commands have in common: their names in errors and help, and completion."""

from __future__ import annotations

import re
from collections.abc import Callable
from functools import wraps
from typing import Any, Final

from cli import completion
from shared.errors import FleetError

_FIELD: Final = re.compile(r"(?:(?<=^)|(?<=; ))(\w+(?:\.\w+)*(?:, \w+)*): ")


def prepared(command: Any) -> Any:  # noqa: ANN401 - click's type of all commands is private
    """Prepare the parameters of a command, or of the commands of a group, and return it.

    A parameter has the name of the field that it fills in: errors name the parameter instead of the field.
    """
    for one in getattr(command, "commands", {}).values():
        prepared(one)
    for parameter in command.params:
        if parameter.param_type_name == "argument":
            parameter.metavar = parameter.metavar or parameter.name.upper()
        if parameter.name in completion.NAMES and parameter.type_descriptor.annotation is not int:
            # Typer's own parameter for this would be given at each of them.
            parameter._custom_shell_complete = completion.NAMES[parameter.name]  # noqa: SLF001
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
