"""Ed25519 signatures of firmware images: detached, 64 bytes, over a line that identifies the image.

The line is `mdm-firmware/1 ` and the SHA-256 of the file in hexadecimal, so that a signature of an image is never
valid for anything else, and openssl can make it too. Keys are PEM, as of `openssl genpkey -algorithm ed25519`.
"""

from __future__ import annotations

import hashlib

from cryptography.exceptions import InvalidSignature, UnsupportedAlgorithm
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey

from shared.errors import InvalidInputError


def message(sha256: str) -> bytes:
    """Return the signed text for the image with this SHA-256 (hexadecimal)."""
    return f"mdm-firmware/1 {sha256}".encode("ascii")


def sign(private_key: Ed25519PrivateKey, sha256: str) -> bytes:
    """Return the signature for an image."""
    return private_key.sign(message(sha256))


def verifies(public_key: bytes, sha256: str, signature: bytes) -> bool:
    """Return whether the signature for an image was made with the private half of this raw key."""
    try:
        Ed25519PublicKey.from_public_bytes(public_key).verify(signature, message(sha256))
    except InvalidSignature:
        return False
    return True


def fingerprint(public_key: bytes) -> str:
    """Return the SHA-256 of a raw key's DER: `openssl pkey -pubin -in FILE -outform DER | sha256sum`."""
    der = Ed25519PublicKey.from_public_bytes(public_key).public_bytes(
        serialization.Encoding.DER, serialization.PublicFormat.SubjectPublicKeyInfo
    )
    return hashlib.sha256(der).hexdigest()


def private_key_of(pem: bytes) -> Ed25519PrivateKey:
    """Return the private key in a PEM file, or raise InvalidInputError."""
    try:
        key = serialization.load_pem_private_key(pem, password=None)
    except TypeError:
        raise InvalidInputError("key: is encrypted; decrypt it with openssl pkey first") from None
    except (ValueError, UnsupportedAlgorithm):
        raise InvalidInputError("key: must be an Ed25519 private key in PEM") from None
    if not isinstance(key, Ed25519PrivateKey):
        raise InvalidInputError("key: must be an Ed25519 private key, is of another kind")
    return key


def public_key_of(pem: bytes) -> bytes:
    """Return the raw public key in a PEM file, or raise InvalidInputError."""
    if b"PRIVATE KEY" in pem:
        raise InvalidInputError(
            "key: is a private key, keep it; openssl pkey -in FILE -pubout makes the public one"
        )
    try:
        key = serialization.load_pem_public_key(pem)
    except (ValueError, UnsupportedAlgorithm):
        raise InvalidInputError("key: must be an Ed25519 public key in PEM") from None
    if not isinstance(key, Ed25519PublicKey):
        raise InvalidInputError("key: must be an Ed25519 public key, is of another kind")
    return key.public_bytes_raw()
