from __future__ import annotations

import hashlib
import shutil
import subprocess
from pathlib import Path

import pytest
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import rsa
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from shared.errors import InvalidInputError
from shared.esp32 import ed25519
from shared.esp32 import signature as image_signature
from tests.signing import private_pem, public_pem

SHA256 = hashlib.sha256(b"image").hexdigest()
KEY = Ed25519PrivateKey.from_private_bytes(bytes(range(32)))
PUBLIC = KEY.public_key().public_bytes_raw()
OPENSSL = pytest.mark.skipif(shutil.which("openssl") is None, reason="needs the openssl command")


def rsa_pem() -> tuple[bytes, bytes]:
    key = rsa.generate_private_key(65537, 2048)
    private = key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )
    public = key.public_key().public_bytes(
        serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo
    )
    return private, public


def test_a_signature_is_for_one_image_by_one_key() -> None:
    signature = image_signature.sign(KEY, SHA256)
    assert len(signature) == ed25519.SIGNATURE_BYTES
    assert image_signature.verifies(PUBLIC, SHA256, signature)
    assert not image_signature.verifies(PUBLIC, hashlib.sha256(b"other").hexdigest(), signature)
    assert not image_signature.verifies(
        Ed25519PrivateKey.generate().public_key().public_bytes_raw(), SHA256, signature
    )
    for wrong in (b"", signature[:-1], signature + b"\x00", bytes(64)):
        assert not image_signature.verifies(PUBLIC, SHA256, wrong)


@pytest.mark.parametrize("signed", [bytes.fromhex(SHA256), SHA256.encode(), b"image"])
def test_a_signature_of_the_bare_hash_or_file_does_not_count(signed: bytes) -> None:
    assert not image_signature.verifies(PUBLIC, SHA256, KEY.sign(signed))


def test_keys_are_read_from_pem() -> None:
    assert image_signature.private_key_of(private_pem(KEY)).private_bytes_raw() == bytes(range(32))
    assert image_signature.public_key_of(public_pem(KEY)) == PUBLIC


def test_what_is_no_key_is_refused_with_the_reason() -> None:
    rsa_private, rsa_public = rsa_pem()
    for pem, rule in [
        (b"", "must be an Ed25519 private key in PEM"),
        (public_pem(KEY), "must be an Ed25519 private key in PEM"),
        (private_pem(KEY, serialization.BestAvailableEncryption(b"password")), "is encrypted"),
        (rsa_private, "is of another kind"),
    ]:
        with pytest.raises(InvalidInputError, match=rule):
            image_signature.private_key_of(pem)
    for pem, rule in [
        (b"", "must be an Ed25519 public key in PEM"),
        (private_pem(KEY), "is a private key"),
        (rsa_public, "is of another kind"),
    ]:
        with pytest.raises(InvalidInputError, match=rule):
            image_signature.public_key_of(pem)


@OPENSSL
def test_openssl_makes_the_same_keys_fingerprints_and_signatures(tmp_path: Path) -> None:
    def openssl(*arguments: str) -> bytes:
        return subprocess.run(["openssl", *arguments], cwd=tmp_path, capture_output=True, check=True).stdout

    openssl("genpkey", "-algorithm", "ed25519", "-out", "key.pem")
    openssl("pkey", "-in", "key.pem", "-pubout", "-out", "public.pem")
    public_key = image_signature.public_key_of((tmp_path / "public.pem").read_bytes())
    der = openssl("pkey", "-pubin", "-in", "public.pem", "-outform", "DER")
    assert image_signature.fingerprint(public_key) == hashlib.sha256(der).hexdigest()
    (tmp_path / "line").write_text(f"mdm-firmware/1 {SHA256}")
    openssl("pkeyutl", "-sign", "-rawin", "-inkey", "key.pem", "-in", "line", "-out", "image.sig")
    signature = (tmp_path / "image.sig").read_bytes()
    assert image_signature.verifies(public_key, SHA256, signature)
    private_key = image_signature.private_key_of((tmp_path / "key.pem").read_bytes())
    assert image_signature.sign(private_key, SHA256) == signature
