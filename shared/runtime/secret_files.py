"""Secrets from the environment: in `MDM_X` itself, or in a file that `MDM_X_FILE` names, as in Docker."""

from __future__ import annotations

import os
from pathlib import Path

from shared.errors import InvalidInputError


def read(variable: str) -> str | None:
    """Return the secret in a variable or its file, without one newline at the end; None if neither is given.

    An empty variable counts as not given. Raise InvalidInputError naming variable and file.
    """
    of_file = f"{variable}_FILE"
    value, name = os.environ.get(variable), os.environ.get(of_file)
    if not name:
        return value or None
    if value:
        raise InvalidInputError(f"{variable}, {of_file}: only one of both may be given")
    try:
        text = Path(name).read_text(encoding="utf-8")
    except OSError as error:
        raise InvalidInputError(f"{of_file}: {name} cannot be read: {error.strerror}") from None
    except ValueError:
        raise InvalidInputError(f"{of_file}: {name} must be text in UTF-8") from None
    secret = text.removesuffix("\n").removesuffix("\r")
    if not secret:
        raise InvalidInputError(f"{of_file}: {name} is empty")
    return secret
