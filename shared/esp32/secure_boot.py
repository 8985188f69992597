"""Signatures for Secure Boot that follow an image, as `espsecure sign-data` appends them.

Version 1: a version number, 0, and an ECDSA P-256 signature of all before them; the key is not in the file.
Version 2: padding to 4 KiB and a sector with one to three blocks, each with a public key and a signature of all
before the sector. Source: ESP-IDF, "Secure Boot V2", signature block format, and espsecure.
"""

from __future__ import annotations

import hashlib
import struct
import zlib
from dataclasses import dataclass
from typing import Final, Literal

from cryptography.exceptions import InvalidSignature, UnsupportedAlgorithm
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, padding, rsa, utils

from shared.esp32.errors import ImageError

SECTOR_BYTES: Final = 4096
VERSION_1_BYTES: Final = 68
_BLOCK_BYTES: Final = 1216
_MAX_BLOCKS: Final = 3
_MAGIC: Final = 0xE7
_CHECKED_BYTES: Final = 1196
_RSA, _ECDSA = 2, 3
# digest of the image, modulus, exponent, two values for the hardware that follow from both, signature
_RSA_BODY: Final = struct.Struct("<4x32s 384sI 384sI 384s")
_RSA_KEY: Final = slice(36, 812)
_P256_ORDER: Final = 0xFFFFFFFF00000000FFFFFFFFFFFFFFFFBCE6FAADA7179E84F3B9CAC2FC632551


@dataclass(frozen=True, slots=True)
class SignatureBlock:
    """A signature of an image for Secure Boot.

    `key_digest` (SHA-256, hex) is what a device has in its eFuses; the key of version 1 is not in the file.
    """

    version: Literal[1, 2]
    scheme: str
    key_digest: str | None


@dataclass(frozen=True, slots=True)
class _Curve:
    """A curve of ECDSA blocks, with the hash of the image and the size of the fields for key and signature."""

    scheme: str
    curve: ec.EllipticCurve
    hash_id: int
    hash: hashes.SHA256 | hashes.SHA384
    field_bytes: int


_CURVES: Final = {
    1: _Curve("ECDSA P-192", ec.SECP192R1(), 0, hashes.SHA256(), 64),
    2: _Curve("ECDSA P-256", ec.SECP256R1(), 0, hashes.SHA256(), 64),
    3: _Curve("ECDSA P-384", ec.SECP384R1(), 1, hashes.SHA384(), 96),
}


def size_bytes(data: bytes, end: int) -> int:
    """Return the length of padding and signatures after an image that ends at `end`; 0 if there are none."""
    start = _sector(end)
    if data[start : start + 1] == bytes([_MAGIC]) and not data[end:start].strip(b"\xff"):
        return min(start + SECTOR_BYTES, len(data)) - end
    found = data[end : end + VERSION_1_BYTES]
    is_version_1 = len(found) == VERSION_1_BYTES and found.startswith(bytes(4)) and any(found)
    return VERSION_1_BYTES if is_version_1 else 0


def read(data: bytes, end: int) -> tuple[SignatureBlock, ...]:
    """Return the signatures of an image that ends at `end`; raise ImageError for the first that is not valid.

    A version 1 signature cannot be verified without its key: only its form is checked.
    """
    length = size_bytes(data, end)
    if length == 0:
        return ()
    if length == VERSION_1_BYTES and data[end : end + 4] == bytes(4):
        _check_version_1(data[end + 4 : end + VERSION_1_BYTES])
        return (SignatureBlock(1, "ECDSA P-256", None),)
    start = _sector(end)
    if len(data) < start + SECTOR_BYTES:
        raise ImageError("signatures", found=f"{len(data) - start} bytes", expected=f"a sector of {SECTOR_BYTES}")
    blocks = []
    for number in range(_MAX_BLOCKS):
        offset = start + number * _BLOCK_BYTES
        if data[offset] != _MAGIC:
            break
        blocks.append(_block(f"signatures.{number}", data[offset : offset + _BLOCK_BYTES], data[:start]))
    return tuple(blocks)


def _sector(end: int) -> int:
    """Return where the bootloader looks for the sector with the signatures of an image that ends at `end`."""
    return end + -end % SECTOR_BYTES


def _check_version_1(signature: bytes) -> None:
    for name, raw in (("r", signature[:32]), ("s", signature[32:])):
        if not 0 < int.from_bytes(raw, "big") < _P256_ORDER:
            raise ImageError(f"signatures.0.{name}", found=raw.hex(), expected="1 to the order of P-256")


def _block(field: str, block: bytes, signed: bytes) -> SignatureBlock:
    (crc,) = struct.unpack_from("<I", block, _CHECKED_BYTES)
    right = zlib.crc32(block[:_CHECKED_BYTES])
    if crc != right:
        raise ImageError(f"{field}.crc", found=f"0x{crc:08X}", expected=f"0x{right:08X}")
    match block[1]:
        case 2:
            return _rsa_block(field, block, signed)
        case 3:
            return _ecdsa_block(field, block, signed)
        case version:
            raise ImageError(f"{field}.version", found=version, expected="2 (RSA) or 3 (ECDSA)")


def _rsa_block(field: str, block: bytes, signed: bytes) -> SignatureBlock:
    digest, modulus, exponent, _, _, signature = _RSA_BODY.unpack_from(block)
    right = hashlib.sha256(signed).digest()
    _check_digest(field, digest, right)
    pss = padding.PSS(mgf=padding.MGF1(hashes.SHA256()), salt_length=hashes.SHA256.digest_size)
    try:
        key = rsa.RSAPublicNumbers(exponent, int.from_bytes(modulus, "little")).public_key()
        key.verify(signature[::-1], right, pss, utils.Prehashed(hashes.SHA256()))
    except (InvalidSignature, ValueError) as error:
        raise _unverified(field) from error
    return SignatureBlock(2, "RSA-3072", hashlib.sha256(block[_RSA_KEY]).hexdigest())


def _ecdsa_block(field: str, block: bytes, signed: bytes) -> SignatureBlock:
    digest_bytes = {0: 32, 1: 48}.get(block[2])
    if digest_bytes is None:
        raise ImageError(f"{field}.hash", found=block[2], expected="0 (SHA-256) or 1 (SHA-384)")
    start = 4 + digest_bytes
    kind = _CURVES.get(block[start])
    if kind is None or kind.hash_id != block[2]:
        known = ", ".join(f"{number} ({it.scheme})" for number, it in _CURVES.items() if it.hash_id == block[2])
        raise ImageError(f"{field}.curve", found=block[start], expected=f"one of {known}")
    right = hashlib.new(kind.hash.name, signed).digest()
    _check_digest(field, block[4:start], right)
    key_end = start + 1 + kind.field_bytes
    x, y = _pair(block[start + 1 : key_end], kind.curve)
    r, s = _pair(block[key_end : key_end + kind.field_bytes], kind.curve)
    try:
        key = ec.EllipticCurvePublicNumbers(x, y, kind.curve).public_key()
        key.verify(utils.encode_dss_signature(r, s), right, ec.ECDSA(utils.Prehashed(kind.hash)))
    except UnsupportedAlgorithm as error:
        raise ImageError(
            f"{field}.curve", found=kind.scheme, expected="one that this system can verify"
        ) from error
    except (InvalidSignature, ValueError) as error:
        raise _unverified(field) from error
    return SignatureBlock(2, kind.scheme, hashlib.sha256(block[start:key_end]).hexdigest())


def _pair(field: bytes, curve: ec.EllipticCurve) -> tuple[int, int]:
    """Return two numbers of the curve's size, little-endian, at the start of a field."""
    size = curve.key_size // 8
    return int.from_bytes(field[:size], "little"), int.from_bytes(field[size : 2 * size], "little")


def _check_digest(field: str, digest: bytes, right: bytes) -> None:
    if digest != right:
        raise ImageError(
            f"{field}.digest", found=digest.hex(), expected=f"{right.hex()}, of all before the sector"
        )


def _unverified(field: str) -> ImageError:
    return ImageError(f"{field}.signature", found="another", expected="one made with the key in the block")
