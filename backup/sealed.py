"""An encrypted and authenticated stream in pieces, under a passphrase.

After a header (magic, salt, nonce prefix) come pieces of AES-256-GCM, each with the header as associated data and
a nonce of prefix, number and a flag for the last one (the STREAM construction of Hoang, Reyhanitabar, Rogaway and
Vizar, 2015): a changed, missing, repeated or moved piece, and a truncated end, are detected. The key is derived
from the passphrase by scrypt.
"""

from __future__ import annotations

import secrets
from functools import lru_cache
from typing import BinaryIO, Final

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from cryptography.hazmat.primitives.kdf.scrypt import Scrypt
from pydantic import SecretStr

from shared.errors import FleetError

MAGIC: Final = b"mdm-backup/1\n"
PIECE_BYTES: Final = 1024 * 1024
_TAG_BYTES: Final = 16
_SALT_BYTES: Final = 16
_PREFIX_BYTES: Final = 7
_HEADER_BYTES: Final = len(MAGIC) + _SALT_BYTES + _PREFIX_BYTES
# 128 MiB and about half a second for each guess.
_SCRYPT_COST: Final = 2**17


class DamagedError(FleetError):
    """A file is no backup or is damaged, or the passphrase is wrong."""

    code = "damaged"


class SealedWriter:
    """Encrypts what is written to it; the file is complete only after `close`."""

    def __init__(self, file: BinaryIO, passphrase: SecretStr) -> None:
        self._file = file
        self._header = MAGIC + secrets.token_bytes(_SALT_BYTES + _PREFIX_BYTES)
        self._cipher = _cipher(_salt(self._header), passphrase)
        self._waiting = bytearray()
        self._number = 0
        file.write(self._header)

    def write(self, data: bytes) -> int:
        """Take more data; a piece is written once it is full and not the last."""
        self._waiting += data
        while len(self._waiting) > PIECE_BYTES:
            self._seal(bytes(self._waiting[:PIECE_BYTES]), last=False)
            del self._waiting[:PIECE_BYTES]
        return len(data)

    def close(self) -> None:
        """Write the last piece."""
        self._seal(bytes(self._waiting), last=True)

    def _seal(self, piece: bytes, *, last: bool) -> None:
        nonce = _nonce(self._header, self._number, last=last)
        self._file.write(self._cipher.encrypt(nonce, piece, self._header))
        self._number += 1


class SealedReader:
    """Decrypts the stream of a SealedWriter, from the file's position on; raises DamagedError."""

    def __init__(self, file: BinaryIO, passphrase: SecretStr) -> None:
        self._file = file
        self._header = file.read(_HEADER_BYTES)
        if len(self._header) < _HEADER_BYTES or not self._header.startswith(MAGIC):
            raise DamagedError("file: is not a backup that this version of mdm can read")
        self._cipher = _cipher(_salt(self._header), passphrase)
        self._next = self._take()
        self._opened = bytearray()
        self._number = 0
        self._at_end = False

    def read(self, size: int) -> bytes:
        """Return the next `size` bytes, fewer only at the end."""
        while len(self._opened) < size and not self._at_end:
            self._open()
        data = bytes(self._opened[:size])
        del self._opened[:size]
        return data

    def _open(self) -> None:
        piece, self._next = self._next, self._take()
        self._at_end = not self._next
        try:
            nonce = _nonce(self._header, self._number, last=self._at_end)
            self._opened += self._cipher.decrypt(nonce, piece, self._header)
        except InvalidTag:
            place = f"is damaged in MiB {self._number + 1}" if self._number else "is damaged"
            reason = "" if self._number else ", or the passphrase is wrong"
            raise DamagedError(f"file: {place}{reason}") from None
        self._number += 1

    def _take(self) -> bytes:
        return self._file.read(PIECE_BYTES + _TAG_BYTES)


def _salt(header: bytes) -> bytes:
    return header[len(MAGIC) : len(MAGIC) + _SALT_BYTES]


@lru_cache(maxsize=1)  # a restore reads its file several times
def _cipher(salt: bytes, passphrase: SecretStr) -> AESGCM:
    key = Scrypt(salt=salt, length=32, n=_SCRYPT_COST, r=8, p=1)
    return AESGCM(key.derive(passphrase.get_secret_value().encode()))


def _nonce(header: bytes, number: int, *, last: bool) -> bytes:
    return header[-_PREFIX_BYTES:] + number.to_bytes(4, "big") + bytes([last])
