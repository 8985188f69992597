"""Passwords and passphrases: from the environment, from a terminal without echo, or from standard input."""

from __future__ import annotations

import getpass
import sys

from pydantic import SecretStr

from shared.errors import InvalidInputError
from shared.runtime import secret_files


def is_terminal() -> bool:
    """Say whether a person can be asked."""
    return sys.stdin.isatty()


def ask(what: str, *, variable: str, twice: bool = False) -> SecretStr:
    """Return what the environment or a file that it names has, else what is typed or stands on standard input."""
    known = secret_files.read(variable)
    if known is not None:
        return SecretStr(known)
    if not is_terminal():
        line = sys.stdin.readline().removesuffix("\n").removesuffix("\r")
        if not line:
            raise InvalidInputError(f"{what}: set {variable}, or give it on standard input")
        return SecretStr(line)
    typed = getpass.getpass(f"{what.capitalize()}: ")
    if twice and getpass.getpass(f"{what.capitalize()} again: ") != typed:
        raise InvalidInputError(f"{what}: the two are not the same")
    return SecretStr(typed)
