"""Passwords and passphrases: from the environment, a terminal without echo, or standard input."""

from __future__ import annotations

import getpass
import sys

from pydantic import SecretStr

from shared.errors import InvalidInputError
from shared.runtime import secret_files


def is_terminal() -> bool:
    """Return whether standard input is a terminal, which can be prompted."""
    return sys.stdin.isatty()


def read(what: str, *, variable: str, twice: bool = False) -> SecretStr:
    """Return the password from the variable or the file that it names, else from a prompt or standard input."""
    known = secret_files.read(variable)
    if known is not None:
        return SecretStr(known)
    if not is_terminal():
        line = sys.stdin.readline().removesuffix("\n").removesuffix("\r")
        if not line:
            raise InvalidInputError(f"{what}: set {variable}, or pass it on standard input")
        return SecretStr(line)
    typed = getpass.getpass(f"{what.capitalize()}: ")
    if twice and getpass.getpass(f"{what.capitalize()} again: ") != typed:
        raise InvalidInputError(f"{what}: the two entries differ")
    return SecretStr(typed)
