"""The format of a backup: an encrypted tar of entries in pieces; the manifest comes first, `end` last."""

from __future__ import annotations

import io
import tarfile
from collections.abc import Iterator
from dataclasses import dataclass, field
from itertools import groupby
from typing import BinaryIO, Final

from pydantic import AwareDatetime, BaseModel, ConfigDict, SecretStr, ValidationError

from backup.sealed import PIECE_BYTES, DamagedError, SealedReader, SealedWriter
from shared.protocol.topics import explain

MANIFEST: Final = "manifest"
KEYCLOAK: Final = "keycloak"
BROKER: Final = "broker"
TABLES: Final = "tables/"
IMAGES: Final = "images/"
END: Final = "end"


class RecordedDevice(BaseModel):
    """The database's record of a device; `rotating`: it has an open rotation."""

    model_config = ConfigDict(frozen=True)

    client_id: str
    key: str
    enabled: bool
    generation: int
    rotating: bool


class Secret(BaseModel):
    """Keycloak's secret of a device."""

    model_config = ConfigDict(frozen=True)

    client_id: str
    secret: str
    generation: int


class Secrets(BaseModel):
    """Keycloak's secrets of all devices, read shortly after the database's snapshot.

    `recovery_key` is the private half of the server's key pair for recovery, if the master key is known.
    """

    secrets: list[Secret]
    recovery_key: str | None = None


class Manifest(BaseModel):
    """The contents of a backup: the database's revision, tables with their columns, sequences, and devices.

    `images` are the sizes in bytes of the stored images, by SHA-256.
    """

    model_config = ConfigDict(frozen=True)

    created_at: AwareDatetime
    instance: str
    revision: str
    tables: dict[str, list[str]]
    sequences: dict[str, int]
    devices: list[RecordedDevice]
    images: dict[str, int]
    has_broker: bool


@dataclass(frozen=True, slots=True)
class ArchivePiece:
    """A part of an entry's bytes."""

    entry: str
    data: bytes


@dataclass(slots=True)
class Writer:
    """Writes entries one after another; a small one is one piece."""

    sealed: SealedWriter
    _tar: tarfile.TarFile = field(init=False)
    _counts: dict[str, int] = field(default_factory=dict)

    @classmethod
    def on(cls, file: BinaryIO, passphrase: SecretStr) -> Writer:
        """Begin a backup in an empty file."""
        return cls(SealedWriter(file, passphrase))

    def __post_init__(self) -> None:
        self._tar = tarfile.open(fileobj=self.sealed, mode="w|")  # type: ignore[call-overload]  # noqa: SIM115

    def add(self, entry: str, data: bytes) -> None:
        """Add a piece to an entry."""
        number = self._counts[entry] = self._counts.get(entry, -1) + 1
        info = tarfile.TarInfo(f"{entry}/{number:08d}")
        info.size = len(data)
        self._tar.addfile(info, io.BytesIO(data))

    def close(self) -> None:
        """End the backup."""
        self.add(END, b"")
        self._tar.close()
        self.sealed.close()


@dataclass(slots=True)
class Collector:
    """Collects small parts of data into pieces of an entry."""

    writer: Writer
    entry: str
    _waiting: bytearray = field(default_factory=bytearray)
    _size: int = 0

    async def take(self, data: bytes) -> None:
        """Collect more data."""
        self._waiting += data
        if len(self._waiting) >= PIECE_BYTES:
            self._flush()

    def close(self) -> int:
        """Add the remaining data as the last piece, and return the number of collected bytes."""
        self._flush()
        return self._size

    def _flush(self) -> None:
        self.writer.add(self.entry, bytes(self._waiting))
        self._size += len(self._waiting)
        self._waiting.clear()


def pieces(file: BinaryIO, passphrase: SecretStr) -> Iterator[ArchivePiece]:
    """Yield all pieces of a backup in order, or raise DamagedError at the first one that cannot be decrypted."""
    file.seek(0)
    entry = ""
    try:
        with tarfile.open(fileobj=SealedReader(file, passphrase), mode="r|") as tar:  # type: ignore[call-overload]
            for info in tar:
                entry = info.name.rpartition("/")[0]
                content = tar.extractfile(info)
                yield ArchivePiece(entry, content.read() if content else b"")
    except tarfile.TarError as error:
        raise DamagedError(f"file: cannot be read: {error}") from error
    if entry != END:
        raise DamagedError("file: ends too early")


def grouped(file: BinaryIO, passphrase: SecretStr, kind: str) -> Iterator[tuple[str, Iterator[bytes]]]:
    """Yield each entry of a kind, such as `tables/`: its name without that prefix, and its pieces."""
    for entry, found in groupby(pieces(file, passphrase), key=lambda piece: piece.entry):
        if entry.startswith(kind):
            yield entry.removeprefix(kind), (piece.data for piece in found)


def whole(file: BinaryIO, passphrase: SecretStr, entry: str) -> bytes:
    """Return an entry as a whole, or raise DamagedError."""
    for rest, found in grouped(file, passphrase, entry):
        if not rest:
            return b"".join(found)
    raise DamagedError(f"file: has no entry {entry}")


def read_manifest(file: BinaryIO, passphrase: SecretStr) -> Manifest:
    """Return the manifest of a backup."""
    try:
        return Manifest.model_validate_json(whole(file, passphrase, MANIFEST))
    except ValidationError as error:
        raise DamagedError(f"file: its manifest cannot be read: {explain(error)}") from None
