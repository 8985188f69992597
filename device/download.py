"""The download of an image into the inactive slot; the record of received chunks survives a restart."""

from __future__ import annotations

import hashlib
from collections.abc import Container, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from pydantic import BaseModel, ValidationError

from device import durable

FILE_NAME: Final = "download.json"


@dataclass(frozen=True, slots=True)
class Wish:
    """The image to fetch, and its slot."""

    sha256: str
    size_bytes: int
    chunk_size_bytes: int
    slot: int


class _Progress(BaseModel):
    sha256: str
    size_bytes: int
    chunk_size_bytes: int
    slot: int
    bitmap: str
    """One bit a chunk, lowest first, in hex."""
    restarts: int = 0


class Download:
    """The bytes in `path` and their bitmap in `folder`.

    `save` makes both durable, the bytes first; chunks received after it are fetched again after a crash. Fault
    points: `download.begin` and `download.save`, each with `:before`, `:written` and `:after`.
    """

    def __init__(self, folder: Path, path: Path, wish: Wish, *, fault: durable.Fault = durable.no_fault) -> None:
        """Resume the download of the same image and slot, or begin."""
        self.wish = wish
        self._path = path
        self._record = folder / FILE_NAME
        self._fault = fault
        self.chunks = -(-wish.size_bytes // wish.chunk_size_bytes)
        self.restarts = 0
        self.unsaved = 0
        """The number of chunks that a power cut would lose."""
        self._done = 0
        if not self._resume():
            self._begin()

    @property
    def is_complete(self) -> bool:
        """Whether all chunks have been received."""
        return self._done == (1 << self.chunks) - 1

    @property
    def percent(self) -> int:
        """The received share in percent, rounded down."""
        return 100 * self._done.bit_count() // self.chunks if self.chunks else 100

    def missing(self, exclude: Container[int]) -> Iterator[int]:
        """Yield the offsets of the chunks that are neither received nor in `exclude`, lowest first."""
        for chunk in range(_gap(self._done), self.chunks):
            offset = chunk * self.wish.chunk_size_bytes
            if not self._done >> chunk & 1 and offset not in exclude:
                yield offset

    def length_at(self, offset: int) -> int:
        """Return the length in bytes of the chunk at `offset`; only the last one is shorter."""
        return min(self.wish.chunk_size_bytes, self.wish.size_bytes - offset)

    def put(self, offset: int, data: bytes) -> bool:
        """Store a chunk; return False for one that is a duplicate, is out of place or has the wrong length."""
        chunk, rest = divmod(offset, self.wish.chunk_size_bytes)
        if rest or chunk >= self.chunks or len(data) != self.length_at(offset) or self._done >> chunk & 1:
            return False
        with self._path.open("r+b") as file:
            file.seek(offset)
            file.write(data)
        self._done |= 1 << chunk
        self.unsaved += 1
        return True

    def save(self) -> None:
        """Make the received chunks durable."""
        self._sync_bytes()
        self._write("download.save")
        self.unsaved = 0

    def is_genuine(self) -> bool:
        """Return whether the bytes have the announced sha256."""
        return hashlib.sha256(self._path.read_bytes()).hexdigest() == self.wish.sha256

    def head(self, size_bytes: int) -> bytes:
        """Return the first bytes of the image."""
        with self._path.open("rb") as file:
            return file.read(size_bytes)

    def restart(self) -> None:
        """Drop all chunks and count the restart."""
        self.restarts += 1
        self._begin()

    def forget(self) -> None:
        """Drop the record, so that the same image would be fetched from the start."""
        self._record.unlink(missing_ok=True)
        durable.sync_folder(self._record.parent)

    def _begin(self) -> None:
        # The record first: a bitmap must never vouch for bytes of another image.
        self._done = self.unsaved = 0
        self._write("download.begin")
        with self._path.open("wb") as file:
            file.truncate(self.wish.size_bytes)
        self._sync_bytes()
        durable.sync_folder(self._path.parent)

    def _resume(self) -> bool:
        try:
            record = _Progress.model_validate_json(self._record.read_bytes())
            done = int(record.bitmap, 16)
            size_bytes = self._path.stat().st_size
        except (OSError, ValidationError, ValueError):
            return False
        wish = self.wish
        same = (record.sha256, record.size_bytes, record.slot) == (wish.sha256, wish.size_bytes, wish.slot)
        if not same or size_bytes != wish.size_bytes:
            return False
        if record.chunk_size_bytes != wish.chunk_size_bytes:
            # The chunk size has changed: the bytes before the first gap are still valid.
            kept_bytes = min(_gap(done) * record.chunk_size_bytes, wish.size_bytes)
            at_end = kept_bytes == wish.size_bytes
            done = (1 << (self.chunks if at_end else kept_bytes // wish.chunk_size_bytes)) - 1
        self._done = done & ((1 << self.chunks) - 1)
        self.restarts = record.restarts
        return True

    def _sync_bytes(self) -> None:
        with self._path.open("r+b") as file:
            durable.sync(file.fileno())

    def _write(self, name: str) -> None:
        record = _Progress(
            sha256=self.wish.sha256,
            size_bytes=self.wish.size_bytes,
            chunk_size_bytes=self.wish.chunk_size_bytes,
            slot=self.wish.slot,
            bitmap=f"{self._done:x}",
            restarts=self.restarts,
        )
        durable.write(self._record, record.model_dump_json().encode(), name=name, fault=self._fault)


def _gap(bitmap: int) -> int:
    """Return the position of the lowest bit that is not set."""
    return (~bitmap & (bitmap + 1)).bit_length() - 1
