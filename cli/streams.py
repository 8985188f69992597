"""Standard input, output and error as they may be: closed, full, gone, or not in UTF-8."""

from __future__ import annotations

import os
import sys
from pathlib import Path

from shared.errors import FleetError


class OutputLostError(FleetError):
    """Standard output is closed or cannot be written; what was printed is incomplete."""

    code = "output_lost"


def prepare() -> None:
    """Replace closed streams, and let text that a terminal cannot show be printed in another way."""
    if sys.stdin is None:
        sys.stdin = Path(os.devnull).open(encoding="utf-8")  # noqa: SIM115 - until the end
    if sys.stderr is None:
        sys.stderr = Path(os.devnull).open("w", encoding="utf-8")  # noqa: SIM115 - as above
    for stream, errors in ((sys.stdin, "strict"), (sys.stdout, "replace"), (sys.stderr, "backslashreplace")):
        # Not the streams that a test puts in their place.
        if hasattr(stream, "reconfigure"):
            stream.reconfigure(errors=errors)


def check() -> None:
    """Raise OutputLostError if what was printed has not arrived."""
    if sys.stdout is None:
        raise OutputLostError("standard output is closed")
    try:
        sys.stdout.flush()
    except OSError as error:
        raise lost(error) from None


def lost(error: OSError) -> OutputLostError:
    """Return the error for standard output that cannot be written; nothing more is written to it."""
    with Path(os.devnull).open("wb") as nowhere:
        os.dup2(nowhere.fileno(), sys.stdout.fileno())
    return OutputLostError(f"standard output cannot be written: {error.strerror}")
