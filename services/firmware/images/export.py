"""Export of each model's image to a file at a stable path, for other servers."""

from __future__ import annotations

import hashlib
import os
import tempfile
import time
from pathlib import Path
from typing import Final

from shared.errors import InvalidInputError, UnavailableError

_PART: Final = ".part"
_ABANDONED_AFTER_S: Final = 3600


class ImageExport:
    """The folder with `firmware-{code}.bin`; each file is replaced atomically.

    Its methods block. A folder that cannot be used raises InvalidInputError, a later failure UnavailableError.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._known: dict[str, tuple[tuple[int, int, int], str]] = {}
        try:
            folder.mkdir(parents=True, exist_ok=True)
            for part in folder.glob(f".firmware-*{_PART}"):
                # Left by a process that was killed; a more recent one may still be in use.
                if part.stat().st_mtime < time.time() - _ABANDONED_AFTER_S:
                    part.unlink(missing_ok=True)
        except OSError as error:
            raise InvalidInputError(f"MDM_ASSETS_DIR: {folder} cannot be used: {error.strerror}") from error

    def holds(self, code: str) -> str | None:
        """Return the SHA-256 of a model's file, None if there is none; read again only if it has changed."""
        path = self._path(code)
        try:
            facts = path.stat()
            mark = (facts.st_ino, facts.st_size, facts.st_mtime_ns)
            known = self._known.get(code)
            if known is None or known[0] != mark:
                known = (mark, hashlib.sha256(path.read_bytes()).hexdigest())
                self._known[code] = known
        except FileNotFoundError:
            return None
        except OSError as error:
            raise _unavailable(path, error) from error
        return known[1]

    def put(self, code: str, data: bytes) -> None:
        """Replace a model's file atomically and durably."""
        path = self._path(code)
        part: str | None = None
        try:
            descriptor, part = tempfile.mkstemp(_PART, f".firmware-{code}-", self._folder)
            with os.fdopen(descriptor, "wb") as file:
                file.write(data)
                file.flush()
                os.fchmod(descriptor, 0o644)
                os.fsync(descriptor)
            Path(part).replace(path)
        except OSError as error:
            if part is not None:
                Path(part).unlink(missing_ok=True)
            raise _unavailable(path, error) from error

    def clear(self, code: str) -> None:
        """Remove a model's file."""
        path = self._path(code)
        try:
            path.unlink(missing_ok=True)
        except OSError as error:
            raise _unavailable(path, error) from error

    def _path(self, code: str) -> Path:
        return self._folder / f"firmware-{code}.bin"


def _unavailable(path: Path, error: OSError) -> UnavailableError:
    return UnavailableError(f"{path}: {error.strerror}")
