"""Secrets: generation, proofs, sealing for one device, and encryption at rest."""

from __future__ import annotations

import base64
import hashlib
import hmac
import secrets
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final, Literal, Self

from cryptography.fernet import Fernet, InvalidToken, MultiFernet
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey, X25519PublicKey
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.kdf.hkdf import HKDF
from joserfc import jwe
from joserfc.errors import JoseError
from joserfc.jwk import OKPKey
from pydantic import SecretStr

from shared.errors import FleetError, InvalidInputError

if TYPE_CHECKING:
    from collections.abc import Sequence
    from uuid import UUID

_UNREADABLE = "no master key opens a stored secret; is one missing in MDM_MASTER_KEYS or MDM_MASTER_KEYS_FILE?"
_FINGERPRINT: Final = 16
_SEAL = {"alg": "ECDH-ES", "enc": "A256GCM"}


class SecretUnreadableError(FleetError):
    """A ciphertext cannot be decrypted with any of the master keys."""

    code = "secret_unreadable"


def new_secret() -> SecretStr:
    """Return 256 random bits as 43 characters of base64url."""
    return SecretStr(secrets.token_urlsafe(32))


@dataclass(frozen=True, slots=True)
class Held:
    """The secret in one place: its generation, and 16 hexadecimal digits that identify it."""

    generation: int
    fingerprint: str

    @classmethod
    def of(cls, secret: SecretStr, generation: int) -> Self:
        """Return the value for a secret: the digits are of its SHA-256, which does not reveal 256 random bits."""
        return cls(generation, hashlib.sha256(secret.get_secret_value().encode()).hexdigest()[:_FINGERPRINT])

    def __str__(self) -> str:
        return f"{self.generation}:{self.fingerprint}"

    @classmethod
    def parse(cls, text: str | None) -> Self | None:
        """Return the value that `str` printed, or None for any other text."""
        generation, _, fingerprint = (text or "").partition(":")
        if not (generation.isascii() and generation.isdigit() and len(fingerprint) == _FINGERPRINT):
            return None
        return cls(int(generation), fingerprint)


Purpose = Literal["request", "current", "stored", "ack"]
"""Purpose of a proof: the first two are made with the secret in force, the others with the new one."""


def proof(secret: SecretStr, purpose: Purpose, rotation_id: UUID) -> str:
    """Return hex HMAC-SHA256 (RFC 2104) over "purpose:rotation_id", keyed by the secret's UTF-8 bytes."""
    message = f"{purpose}:{rotation_id}".encode()
    return hmac.new(secret.get_secret_value().encode(), message, "sha256").hexdigest()


def key_proof(secret: SecretStr, public_key: str) -> str:
    """Return hex HMAC-SHA256 (RFC 2104) over "key:public_key": proves that the key's owner has the secret."""
    message = f"key:{public_key}".encode()
    return hmac.new(secret.get_secret_value().encode(), message, "sha256").hexdigest()


def proves(given: str, secret: SecretStr, purpose: Purpose, rotation_id: UUID) -> bool:
    """Return whether `given` is the proof, in constant time."""
    return hmac.compare_digest(given, proof(secret, purpose, rotation_id))


def public_half(key: OKPKey) -> str:
    """Return the public key of an X25519 key pair, 43 characters of base64url."""
    return str(key.as_dict(private=False)["x"])


def check_public_key(public_key: str) -> None:
    """Raise InvalidInputError unless a secret can be sealed for this X25519 key in base64url."""
    seal(SecretStr("a trial"), public_key)


def seal(secret: SecretStr, public_key: str) -> str:
    """Return a secret text as a compact JWE (RFC 7516: ECDH-ES, A256GCM) for an X25519 key in base64url."""
    try:
        key = OKPKey.import_key({"kty": "OKP", "crv": "X25519", "x": public_key})
        return jwe.encrypt_compact(_SEAL, secret.get_secret_value(), key, algorithms=list(_SEAL.values()))
    except (JoseError, ValueError) as error:
        raise InvalidInputError("public_key: must be a usable X25519 key of 32 bytes, in base64url") from error


def unseal(token: str, private_key: OKPKey) -> SecretStr:
    """Return the text in a compact JWE made by `seal`, or raise SecretUnreadableError."""
    try:
        opened = jwe.decrypt_compact(token, private_key, algorithms=list(_SEAL.values()))
        return SecretStr((opened.plaintext or b"").decode())
    except (JoseError, ValueError) as error:
        raise SecretUnreadableError("jwe: cannot be opened with this key") from error


def new_data_key() -> SecretStr:
    """Return a key for one object that is too large for the vault; the vault encrypts the key."""
    return SecretStr(Fernet.generate_key().decode())


def encrypt_data(key: SecretStr, data: bytes) -> bytes:
    """Return the data as a Fernet token."""
    return Fernet(key.get_secret_value()).encrypt(data)


def decrypt_data(key: SecretStr, token: bytes) -> bytes:
    """Return the data in a Fernet token, or raise SecretUnreadableError."""
    try:
        return Fernet(key.get_secret_value()).decrypt(token)
    except InvalidToken:
        raise SecretUnreadableError(
            "the stored data cannot be decrypted with their own key: they are damaged"
        ) from None


def new_key_pair() -> OKPKey:
    """Return a new X25519 key pair."""
    return OKPKey.generate_key("X25519")


def private_half(key: OKPKey) -> SecretStr:
    """Return the private key of an X25519 key pair, 43 characters of base64url."""
    return SecretStr(str(key.as_dict(private=True)["d"]))


def key_pair(public_key: str, private_key: SecretStr) -> OKPKey:
    """Return the key pair of two halves, as returned by `public_half` and `private_half`."""
    halves = {"x": public_key, "d": private_key.get_secret_value()}
    return OKPKey.import_key({"kty": "OKP", "crv": "X25519", **halves})


def recovery_mac(own: OKPKey, other: str, client_id: str, nonce: str) -> str:
    """Return the MAC that only the owners of the two keys can compute; it authenticates a recovery request.

    Hex HMAC-SHA256 (RFC 2104) over "recover:client_id:nonce", keyed by HKDF-SHA256 (RFC 5869, without a salt, info
    "mdm/v1/recover", 32 bytes) of X25519 (RFC 7748). Raise InvalidInputError for a weak key.
    """
    try:
        private = X25519PrivateKey.from_private_bytes(_decoded(private_half(own).get_secret_value()))
        shared = private.exchange(X25519PublicKey.from_public_bytes(_decoded(other)))
    except ValueError as error:
        raise InvalidInputError("public_key: must be a usable X25519 key of 32 bytes, in base64url") from error
    key = HKDF(algorithm=SHA256(), length=32, salt=None, info=b"mdm/v1/recover").derive(shared)
    return hmac.new(key, f"recover:{client_id}:{nonce}".encode(), "sha256").hexdigest()


def _decoded(text: str) -> bytes:
    return base64.urlsafe_b64decode(text + "=" * (-len(text) % 4))


class Vault:
    """Encrypts secrets at rest with the first of the master keys, and decrypts with any of them."""

    def __init__(self, keys: Sequence[SecretStr]) -> None:
        self._fernet = MultiFernet([Fernet(key.get_secret_value()) for key in keys])

    def encrypt(self, secret: SecretStr) -> bytes:
        """Return the secret as a Fernet token."""
        return self._fernet.encrypt(secret.get_secret_value().encode())

    def decrypt(self, token: bytes) -> SecretStr:
        """Return the secret in a Fernet token, or raise SecretUnreadableError."""
        try:
            return SecretStr(self._fernet.decrypt(token).decode())
        except InvalidToken:
            raise SecretUnreadableError(_UNREADABLE) from None

    def reencrypt(self, token: bytes) -> bytes:
        """Return a Fernet token of the same secret under the first key, or raise SecretUnreadableError."""
        try:
            return self._fernet.rotate(token)
        except InvalidToken:
            raise SecretUnreadableError(_UNREADABLE) from None
