"""Output: JSON for scripts, text for people, and private files."""

from __future__ import annotations

import json
import os
import shutil
import sys
import textwrap
from contextvars import ContextVar
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, TextIO

from cli import streams
from shared.errors import ConflictError, FleetError

if TYPE_CHECKING:
    from pydantic import BaseModel

WIDE: Final[ContextVar[bool]] = ContextVar("WIDE", default=False)
"""Whether tables have all columns, whole cells and exact times, whatever the width of the terminal."""
_MEBIBYTE: Final = 1024 * 1024
_KIBIBYTE: Final = 1024
_UNITS_S: Final = ((24 * 3600, "d"), (3600, "h"), (60, "min"))
_MONTHS_S: Final = 60 * 24 * 3600


class CannotWriteError(FleetError):
    """A file cannot be written."""

    code = "cannot_write"


def print_json(value: BaseModel | dict[str, Any], *, indent: int | None = 2) -> None:
    """Print a result as JSON on stdout."""
    data = value if isinstance(value, dict) else value.model_dump(mode="json")
    print_line(as_json(data, indent=indent))


def as_json(data: dict[str, Any], *, indent: int | None = None) -> str:
    """Return JSON with all control characters escaped, C1 too, which could control the terminal.

    Where standard output is not in UTF-8, all that is not ASCII is escaped.
    """
    is_utf = (sys.stdout.encoding or "").lower().startswith("utf")
    text = json.dumps(data, indent=indent, ensure_ascii=not is_utf)
    return "".join(it if it.isprintable() or it == "\n" else json.dumps(it)[1:-1] for it in text)


def print_line(text: str) -> None:
    """Print one line on stdout and flush, as a pipe may wait for it; raise OutputLostError, or BrokenPipeError."""
    try:
        print(text, flush=True)  # noqa: T201 - this is the tool's output
    except BrokenPipeError:
        raise
    except OSError as error:
        raise streams.lost(error) from None


def print_text(text: str) -> None:
    """Print sentences on stdout; a terminal breaks them at words."""
    print_line(_wrapped(clean(text), sys.stdout))


def print_while_read(text: str) -> bool:
    """Print one line on stdout; return whether there still is a reader, as `head` exits when it has enough."""
    try:
        print_line(text)
    except BrokenPipeError as error:
        streams.lost(error)
        return False
    return True


def print_note(text: str) -> None:
    """Print one line on stderr, which scripts do not read."""
    print(_wrapped(clean(text), sys.stderr), file=sys.stderr, flush=True)  # noqa: T201 - this is the tool's output


def _wrapped(text: str, stream: TextIO) -> str:
    if not stream.isatty():
        return text
    return textwrap.fill(text, shutil.get_terminal_size().columns, break_long_words=False, break_on_hyphens=False)


def cell(value: object, *, now: datetime | None = None) -> str:
    """Return a value as text: times in UTC or relative to `now`, no value as a dash, a document as JSON."""
    if value is None or value in ("", [], {}):
        return "-"
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, datetime):
        return relative(value, now=now) if now else value.astimezone(UTC).strftime("%Y-%m-%d %H:%M:%SZ")
    if isinstance(value, dict):
        return clean(json.dumps(value, ensure_ascii=False))
    if isinstance(value, list):
        return clean(", ".join(str(item) for item in value))
    return clean(str(value))


def relative(at: datetime, *, now: datetime) -> str:
    """Return a time as people say it: "5 min ago", "in 3 h"; one that is months away as a date."""
    seconds = abs((now - at).total_seconds())
    if seconds < _MONTHS_S:
        length, unit = next((it for it in _UNITS_S if it[0] <= seconds), (1, "s"))
        count = f"{int(seconds / length)} {unit}"
        return f"{count} ago" if at <= now else f"in {count}"
    return at.astimezone(UTC).strftime("%Y-%m-%d")


def clean(text: str) -> str:
    """Return the text as one line without control characters, which could control the terminal."""
    line = " ".join(text.split())
    return "".join(character if character.isprintable() else "\ufffd" for character in line)


def size(size_bytes: int) -> str:
    """Return a size in KiB or MiB."""
    if size_bytes >= _MEBIBYTE:
        return f"{size_bytes / _MEBIBYTE:.2f} MiB"
    return f"{size_bytes / _KIBIBYTE:.1f} KiB"


def write_private(path: Path, content: str | bytes, *, replace: bool) -> None:
    """Write a file that only its owner may read, atomically.

    Raise ConflictError if it exists and `replace` is false, CannotWriteError if it cannot be written.
    """
    target = path.with_name(f".{path.name}.{os.urandom(4).hex()}") if replace else path
    try:
        descriptor = os.open(target, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    except FileExistsError as error:
        raise ConflictError(f"--output: {path} exists; --force replaces it") from error
    except OSError as error:
        raise CannotWriteError(f"--output: {path} cannot be written: {error.strerror}") from error
    try:
        with os.fdopen(descriptor, "wb") as file:
            file.write(content.encode() if isinstance(content, str) else content)
        target.replace(path)
    except OSError as error:
        target.unlink(missing_ok=True)
        raise CannotWriteError(f"--output: {path} cannot be written: {error.strerror}") from error
