"""Storage of images by their SHA-256: in a directory, in memory or in an S3 bucket."""

from __future__ import annotations

import asyncio
import hashlib
import os
import re
from datetime import timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Final, Literal
from urllib.parse import urlsplit

import obstore
from obstore.exceptions import BaseError
from obstore.store import LocalStore, MemoryStore, S3Store

from shared.errors import FleetError, InvalidInputError, NotFoundError, UnavailableError

if TYPE_CHECKING:
    from obstore.store import ObjectStore

_SHA256: Final = re.compile(r"[0-9a-f]{64}")
_NAME: Final = re.compile(r"images/([0-9a-f]{64})\.bin")
# obstore raises OSError subclasses for errors of a local disk, and its own errors for all else.
_FAULTS: Final = (BaseError, OSError)
_SIGNED_FOR: Final = timedelta(minutes=5)


class Store:
    """A content-addressed store: `images/{sha256}.bin` below a URL.

    `url` is `file:///absolute/path` (created if missing), `s3://bucket/prefix` (settings and keys from AWS_*
    variables) or `memory:///`. A URL that cannot be used raises InvalidInputError; a store that does not
    answer raises UnavailableError from every method.
    """

    def __init__(self, url: str) -> None:
        try:
            if url.startswith("file:"):
                self._objects: ObjectStore = obstore.store.from_url(url, mkdir=True)
            elif url.startswith("s3:"):
                # Ten times by default, so that a silent server would be waited for 3 minutes and more.
                self._objects = obstore.store.from_url(url, retry_config={"max_retries": 1})
            else:
                self._objects = obstore.store.from_url(url)
        except (*_FAULTS, ValueError) as error:
            expected = "file:///path, s3://bucket/prefix or memory:///"
            raise InvalidInputError(
                f"MDM_ASSETS_URL: expected {expected}, found {url!r} ({_reason(error)})",
                field="url",
                found=url,
                expected=expected,
            ) from error

    async def put(self, sha256: str, data: bytes) -> None:
        """Store `data` atomically and durably; idempotent, and repairs a damaged copy.

        Raise InvalidInputError if its SHA-256 differs.
        """
        key = _key(sha256)
        digest = hashlib.sha256(data).hexdigest()
        if digest != sha256:
            raise InvalidInputError(
                f"sha256: expected {sha256}, found {digest}", field="sha256", found=digest, expected=sha256
            )
        try:
            await obstore.put_async(self._objects, key, data)
            if isinstance(self._objects, LocalStore):
                await asyncio.to_thread(_flush, Path(self._objects.prefix or "/") / key)
        except _FAULTS as error:
            raise _translated(error, sha256) from error

    async def read(self, sha256: str, offset: int, length: int) -> bytes:
        """Return `length` bytes from `offset`, fewer where the image ends.

        Raise NotFoundError for an unknown image, InvalidInputError for an offset at or after its end.
        """
        if offset < 0:
            raise InvalidInputError(f"offset: expected 0 or more, found {offset}", field="offset", found=offset)
        if length < 1:
            raise InvalidInputError(f"length: expected 1 or more, found {length}", field="length", found=length)
        key = _key(sha256)
        try:
            return bytes(await obstore.get_range_async(self._objects, key, start=offset, length=length))
        except _FAULTS as error:
            await self._refuse_behind_end(sha256, offset)
            raise _translated(error, sha256) from error

    @property
    def is_shared(self) -> bool:
        """Return whether another server could read the images too."""
        return not isinstance(self._objects, MemoryStore)

    async def path(self, sha256: str) -> str:
        """Return where another server finds an image, which need not exist, below this store's folder or host.

        For S3 it is signed for five minutes, as path and query of a URL.
        """
        key = _key(sha256)
        if not isinstance(self._objects, S3Store):
            return f"/{key}"
        try:
            url = urlsplit(await obstore.sign_async(self._objects, "GET", key, _SIGNED_FOR))
        except _FAULTS as error:
            raise _translated(error, sha256) from error
        return f"{url.path}?{url.query}"

    async def has(self, sha256: str) -> bool:
        """Return whether the image is stored."""
        return await self._size_bytes(sha256) is not None

    async def fault(self, sha256: str) -> Literal["missing", "damaged"] | None:
        """Return what is wrong with the stored image, `missing` or `damaged`, or None; this reads all of it."""
        try:
            data = await obstore.get_async(self._objects, _key(sha256))
            digest = hashlib.sha256(bytes(await data.bytes_async())).hexdigest()
        except FileNotFoundError:
            return "missing"
        except _FAULTS as error:
            raise _translated(error, sha256) from error
        return None if digest == sha256 else "damaged"

    async def names(self) -> list[str]:
        """Return the SHA-256 of all that is stored."""
        found = []
        try:
            async for page in obstore.list(self._objects, prefix="images"):
                found += [name[1] for one in page if (name := _NAME.fullmatch(one["path"]))]
        except _FAULTS as error:
            raise UnavailableError(f"image store: {_reason(error)}") from error
        return found

    async def delete(self, sha256: str) -> None:
        """Delete the image; ignore one that does not exist."""
        key = _key(sha256)
        try:
            await obstore.delete_async(self._objects, key)
        except FileNotFoundError:
            return
        except _FAULTS as error:
            raise _translated(error, sha256) from error

    async def _size_bytes(self, sha256: str) -> int | None:
        key = _key(sha256)
        try:
            return (await obstore.head_async(self._objects, key))["size"]
        except FileNotFoundError:
            return None
        except _FAULTS as error:
            raise _translated(error, sha256) from error

    async def _refuse_behind_end(self, sha256: str, offset: int) -> None:
        """Raise InvalidInputError for an offset after the end: obstore's error is the same as for an outage."""
        size_bytes = await self._size_bytes(sha256)
        if size_bytes is not None and offset >= size_bytes:
            raise InvalidInputError(
                f"offset: expected less than the image's {size_bytes} bytes, found {offset}",
                field="offset",
                found=offset,
                expected=f"less than {size_bytes}",
            )


def _key(sha256: str) -> str:
    if not _SHA256.fullmatch(sha256):
        expected = "64 hexadecimal digits in lower case"
        raise InvalidInputError(
            f"sha256: expected {expected}, found {sha256!r}", field="sha256", found=sha256, expected=expected
        )
    return f"images/{sha256}.bin"


def _flush(file: Path) -> None:
    """Flush a file, and its name in its folder, to the disk: obstore leaves that to the system."""
    for path in (file, file.parent):
        descriptor = os.open(path, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)


def _translated(error: Exception, sha256: str) -> FleetError:
    if isinstance(error, FileNotFoundError):
        return NotFoundError(f"sha256: no image {sha256} is stored", field="sha256", found=sha256)
    return UnavailableError(f"image store: {_reason(error)}")


def _reason(error: Exception) -> str:
    """Return an error's first line: obstore appends pages of internal details."""
    return str(error).partition("\n")[0]
