"""Images signed for Secure Boot by espsecure, and its verdict on them."""

from __future__ import annotations

import io
import tempfile
from functools import cache
from pathlib import Path
from unittest import mock

import espsecure
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    NoEncryption,
    PrivateFormat,
    PublicFormat,
    load_pem_private_key,
)
from esptool.util import FatalError

SECTOR_BYTES = 4096
BLOCK_BYTES = 1216
CURVES = {"p192": ec.SECP192R1(), "p256": ec.SECP256R1(), "p384": ec.SECP384R1()}


@cache
def key(name: str) -> bytes:
    """Return a private key in PEM, the same one for the same name: `rsa` or one of CURVES, or `p256/2`."""
    kind = name.partition("/")[0]
    made = ec.generate_private_key(CURVES[kind]) if kind in CURVES else rsa.generate_private_key(65537, 3072)
    return made.private_bytes(Encoding.PEM, PrivateFormat.TraditionalOpenSSL, NoEncryption())


@cache
def public_key(name: str) -> bytes:
    """Return the public half of a key in PEM."""
    private = load_pem_private_key(key(name), password=None)
    return private.public_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo)


@cache
def sign(image: bytes, *names: str, version: int = 2, skip_padding: bool = False) -> bytes:
    """Return an image signed with keys of these names, as by `espsecure sign-data --version`."""
    with tempfile.TemporaryDirectory() as folder:
        source, target = Path(folder, "app.bin"), Path(folder, "signed.bin")
        source.write_bytes(image)
        keys = [io.BytesIO(key(name)) for name in names]
        for number, stream in enumerate(keys):
            stream.name = f"key{number}"  # espsecure compares it with the output's
        with source.open("rb") as data:
            espsecure.sign_data(str(version), keys, str(target), False, False, None, [], [], data, skip_padding)  # noqa: FBT003
        return target.read_bytes()


def verifies(data: bytes, name: str, *, version: int = 2) -> bool:
    """Return whether espsecure verifies a file with a key."""
    try:
        espsecure.verify_signature(str(version), False, None, io.BytesIO(public_key(name)), io.BytesIO(data))  # noqa: FBT003
    except (FatalError, ValueError, AssertionError):
        return False
    return True


def listed(data: bytes) -> list[str]:
    """Return the digests of keys that `espsecure signature-info-v2` prints; none if it refuses the file."""
    with mock.patch.object(espsecure.log, "print") as printed:
        try:
            espsecure.signature_info_v2(io.BytesIO(data))
        except FatalError:
            return []
    lines = [str(call.args[0]) for call in printed.call_args_list]
    return [line.partition(": ")[2].replace(" ", "") for line in lines if line.startswith("Public key digest")]


@cache
def key_digest(name: str) -> str:
    """Return the digest of a key that `espsecure digest-sbv2-public-key` gives, in hex."""
    return bytes(espsecure._digest_sbv2_public_key(io.BytesIO(key(name)))).hex()
