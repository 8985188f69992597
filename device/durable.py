"""Files that survive a power cut: each is either the old one or the new one, never a mixture."""

from __future__ import annotations

import os
from collections.abc import Callable
from contextvars import ContextVar
from pathlib import Path
from typing import Final

Fault = Callable[[str], None]
"""Called at a named point; a test raises from it to kill the device there."""


WAITS: Final[ContextVar[bool]] = ContextVar("waits", default=True)
"""Whether writes wait for the disk. Only simulated devices, which lose no power, can do without."""


def no_fault(_point: str) -> None:
    """Do nothing."""


def write(path: Path, data: bytes, *, name: str, fault: Fault = no_fault) -> None:
    """Replace `path` by `data` atomically, with mode 0600.

    Fault points: `name:before`, `name:written` (the new file is complete but not yet in place), `name:after`.
    Raises OSError, and then the old file is still in place.
    """
    fault(f"{name}:before")
    fresh = path.with_name(f"{path.name}.new")
    handle = os.open(fresh, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
    with os.fdopen(handle, "wb") as file:
        file.write(data)
        file.flush()
        sync(file.fileno())
    fault(f"{name}:written")
    fresh.replace(path)
    sync_folder(path.parent)
    fault(f"{name}:after")


def sync(handle: int) -> None:
    """Flush the bytes of an open file, or the names of an open folder, to the disk."""
    if WAITS.get():
        os.fsync(handle)


def sync_folder(folder: Path) -> None:
    """Flush the names in `folder` to the disk: a rename is stored in the folder, not in the file."""
    handle = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        sync(handle)
    finally:
        os.close(handle)


def make_folder(folder: Path) -> None:
    """Create `folder` (mode 0700) and its parents, durably; do nothing if it exists."""
    if folder.is_dir():
        return
    make_folder(folder.parent)
    folder.mkdir(mode=0o700, exist_ok=True)
    sync_folder(folder.parent)
