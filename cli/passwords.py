"""Passwords and passphrases: from the environment, a terminal without echo, or standard input."""

from __future__ import annotations

import getpass
import sys
from pathlib import Path
from typing import Final

from pydantic import SecretStr

from shared.errors import InvalidInputError
from shared.runtime import secret_files

STDIN: Final = Path("-")
_MAX_FILE_BYTES: Final = 1024


def is_terminal() -> bool:
    """Return whether standard input is a terminal, which can be prompted."""
    return sys.stdin.isatty()


def read(what: str, *, variable: str, twice: bool = False) -> SecretStr:
    """Return the password from the variable or the file that it names, else from a prompt or standard input."""
    known = secret_files.read(variable)
    if known is not None:
        return SecretStr(known)
    title = what.capitalize()
    typed = line(title, missing=f"{what}: set {variable}, or pass it on standard input")
    if twice and is_terminal() and getpass.getpass(f"{title} again: ") != typed.get_secret_value():
        raise InvalidInputError(f"{what}: the two entries differ")
    return typed


def prompt(text: str) -> str:
    """Ask for a password on the terminal, without echo."""
    return getpass.getpass(f"{text}: ")


def from_file(path: Path, *, what: str) -> str:
    """Return the password in a file without the newline at its end; a terminal is prompted, without echo.

    Raise InvalidInputError naming `what`.
    """
    if path == STDIN and is_terminal():
        return prompt("Wi-Fi password")
    try:
        if path == STDIN:
            data = sys.stdin.buffer.read(_MAX_FILE_BYTES)
        else:
            with path.open("rb") as file:
                data = file.read(_MAX_FILE_BYTES)
        text = data.decode()
    except OSError as error:
        raise InvalidInputError(f"{what}-file: {path} cannot be read: {error.strerror}") from error
    except UnicodeDecodeError:
        raise InvalidInputError(f"{what}-file: must be printable ASCII characters only") from None
    return text.removesuffix("\n").removesuffix("\r")


def line(title: str, *, missing: str) -> SecretStr:
    """Return what is typed at a prompt without echo, else the next line of standard input."""
    if is_terminal():
        return SecretStr(getpass.getpass(f"{title}: "))
    found = sys.stdin.readline().removesuffix("\n").removesuffix("\r")
    if not found:
        raise InvalidInputError(missing)
    return SecretStr(found)
