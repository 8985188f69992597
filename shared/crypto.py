"""Secrets: made, proven, sealed for one device, and encrypted at rest."""

from __future__ import annotations

import hmac
import secrets
from typing import TYPE_CHECKING, Literal

from cryptography.fernet import Fernet, InvalidToken, MultiFernet
from joserfc import jwe
from joserfc.errors import JoseError
from joserfc.jwk import OKPKey
from pydantic import SecretStr

from shared.errors import FleetError, InvalidInputError

if TYPE_CHECKING:
    from collections.abc import Sequence
    from uuid import UUID

_UNREADABLE = "no master key opens a stored secret; is one missing in MDM_MASTER_KEYS or MDM_MASTER_KEYS_FILE?"
_SEAL = {"alg": "ECDH-ES", "enc": "A256GCM"}


class SecretUnreadableError(FleetError):
    """A ciphertext can not be decrypted with any of the master keys."""

    code = "secret_unreadable"


def new_secret() -> SecretStr:
    """Return 256 random bits as 43 characters of base64url."""
    return SecretStr(secrets.token_urlsafe(32))


def proof(secret: SecretStr, purpose: Literal["stored", "ack"], rotation_id: UUID) -> str:
    """Return hex HMAC-SHA256 (RFC 2104) over "purpose:rotation_id", keyed by the secret's UTF-8 bytes."""
    message = f"{purpose}:{rotation_id}".encode()
    return hmac.new(secret.get_secret_value().encode(), message, "sha256").hexdigest()


def proves(given: str, secret: SecretStr, purpose: Literal["stored", "ack"], rotation_id: UUID) -> bool:
    """Say whether `given` is the proof, in constant time."""
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
        raise SecretUnreadableError("jwe: can not be opened with this key") from error


def new_data_key() -> SecretStr:
    """Return a key for one thing that is too large for the vault; the vault encrypts the key."""
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
            "the stored data can not be opened with their own key: they are damaged"
        ) from None


class Vault:
    """Encrypts secrets at rest with the first of the master keys, and reads with any of them."""

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
        """Return a Fernet token of the same secret and the first key, or raise SecretUnreadableError."""
        try:
            return self._fernet.rotate(token)
        except InvalidToken:
            raise SecretUnreadableError(_UNREADABLE) from None
