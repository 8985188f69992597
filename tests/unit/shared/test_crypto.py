from __future__ import annotations

import base64
import hashlib
import hmac
import json
import string
from uuid import UUID

import pytest
from cryptography.fernet import Fernet
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey, X25519PublicKey
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from hypothesis import given
from hypothesis import strategies as st
from joserfc import jwe
from joserfc.jwk import OKPKey
from pydantic import SecretStr

from shared import crypto
from shared.errors import InvalidInputError

SECRET = SecretStr("the-secret-of-a-device-0123456789abcdefghij")
ROTATION_ID = UUID("7b1f1d5e-7c7e-4b53-a6f5-0d2d8cf3b4f1")
STORED = "a82811e114579baa4f665b541d8a398a43a73696bb161a5e7c1478278ca8f6df"
"""Made with `openssl dgst -sha256 -hmac SECRET` of "stored:ROTATION_ID"; ACK likewise."""
ACK = "c424dfe54fca246e4c5d73df23d2b6ea81034905d0bc6c41db6c0d9ff6387fcb"
TEXTS = st.text(st.characters(codec="utf-8"))


@pytest.fixture(scope="module")
def key() -> OKPKey:
    return OKPKey.generate_key("X25519")


def vault(*keys: bytes) -> crypto.Vault:
    return crypto.Vault([SecretStr(key.decode()) for key in keys])


def test_a_new_secret_has_256_bits_in_base64url_and_is_never_the_same() -> None:
    secrets = {crypto.new_secret().get_secret_value() for _ in range(100)}

    assert len(secrets) == 100
    assert all(
        len(secret) == 43 and set(secret) <= set(string.ascii_letters + string.digits + "-_") for secret in secrets
    )


def test_a_proof_is_what_openssl_computes() -> None:
    assert crypto.proof(SECRET, "stored", ROTATION_ID) == STORED
    assert crypto.proof(SECRET, "ack", ROTATION_ID) == ACK


@given(secret=TEXTS, rotation_id=st.uuids())
def test_a_proof_is_the_hmac_of_purpose_and_rotation_keyed_by_the_secrets_bytes(
    secret: str, rotation_id: UUID
) -> None:
    expected = hmac.digest(secret.encode(), b"ack:" + str(rotation_id).encode(), hashlib.sha256).hex()

    assert crypto.proof(SecretStr(secret), "ack", rotation_id) == expected
    assert crypto.proves(expected, SecretStr(secret), "ack", rotation_id)


def test_a_proof_is_good_for_one_purpose_one_rotation_and_one_secret() -> None:
    other = UUID(int=ROTATION_ID.int + 1)
    changed = SecretStr(SECRET.get_secret_value()[:-1] + "k")

    assert crypto.proves(STORED, SECRET, "stored", ROTATION_ID)
    assert not crypto.proves(STORED, SECRET, "ack", ROTATION_ID)
    assert not crypto.proves(STORED, SECRET, "stored", other)
    assert not crypto.proves(STORED, changed, "stored", ROTATION_ID)
    assert not crypto.proves(STORED[:-1] + "e", SECRET, "stored", ROTATION_ID)
    assert not crypto.proves("", SECRET, "stored", ROTATION_ID)


def test_a_sealed_secret_is_a_compact_jwe_that_only_its_key_opens(key: OKPKey) -> None:
    token = crypto.seal(SECRET, crypto.public_half(key))

    assert SECRET.get_secret_value() not in token
    assert token.count(".") == 4
    header = json.loads(base64.urlsafe_b64decode(token.partition(".")[0] + "=="))
    assert (header["alg"], header["enc"], header["epk"]["crv"]) == ("ECDH-ES", "A256GCM", "X25519")
    assert crypto.unseal(token, key) == SECRET
    with pytest.raises(crypto.SecretUnreadableError, match="jwe: cannot be opened"):
        crypto.unseal(token, OKPKey.generate_key("X25519"))


def test_a_sealed_secret_opens_by_the_steps_that_the_protocol_gives(key: OKPKey) -> None:
    def decoded(text: str) -> bytes:
        return base64.urlsafe_b64decode(text + "=" * (-len(text) % 4))

    header, empty, vector, ciphertext, tag = crypto.seal(SECRET, crypto.public_half(key)).split(".")
    sender = X25519PublicKey.from_public_bytes(decoded(json.loads(decoded(header))["epk"]["x"]))
    own = X25519PrivateKey.from_private_bytes(decoded(str(key.as_dict(private=True)["d"])))
    parts = ("00000001", own.exchange(sender).hex(), "00000007", b"A256GCM".hex(), "0000000000000000", "00000100")
    content_key = hashlib.sha256(bytes.fromhex("".join(parts))).digest()
    opened = AESGCM(content_key).decrypt(decoded(vector), decoded(ciphertext) + decoded(tag), header.encode())
    assert (empty, opened.decode()) == ("", SECRET.get_secret_value())


def test_the_same_secret_is_never_sealed_the_same(key: OKPKey) -> None:
    assert crypto.seal(SECRET, crypto.public_half(key)) != crypto.seal(SECRET, crypto.public_half(key))


@pytest.mark.parametrize(
    "public_key",
    [
        pytest.param("A" * 43, id="all zero"),
        pytest.param("AQ" + "A" * 41, id="low order: one"),
        pytest.param("4Ot6fDtBuK4WVuP68Z_EatoJjeucMrH9hmIFFl9JuAA", id="low order: order eight"),
        pytest.param("X5yVvKNQjCSx0LFVnIPvWwREXMRYHI6G2CJO3dCfEVc", id="low order: order eight, twin"),
        pytest.param("A" * 42, id="31 bytes"),
        pytest.param("A" * 44, id="33 bytes"),
        pytest.param("", id="empty"),
        pytest.param("!" * 43, id="no base64"),
        pytest.param("\N{EURO SIGN}" * 43, id="no ASCII"),
    ],
)
def test_a_public_key_that_protects_nothing_is_refused(public_key: str) -> None:
    with pytest.raises(InvalidInputError) as caught:
        crypto.seal(SECRET, public_key)
    assert caught.value.message == "public_key: must be a usable X25519 key of 32 bytes, in base64url"


@pytest.mark.parametrize("token", ["", "a", "....", "a.b.c.d.e", "\N{EURO SIGN}.a.a.a.a", "e30....", "W10...."])
def test_what_is_no_jwe_cannot_be_opened(token: str, key: OKPKey) -> None:
    with pytest.raises(crypto.SecretUnreadableError):
        crypto.unseal(token, key)


@pytest.mark.parametrize("part", range(5))
def test_a_jwe_changed_in_any_part_cannot_be_opened(part: int, key: OKPKey) -> None:
    parts = crypto.seal(SECRET, crypto.public_half(key)).split(".")
    parts[part] = ("A" if not parts[part].startswith("A") else "B") + parts[part][1:]

    with pytest.raises(crypto.SecretUnreadableError):
        crypto.unseal(".".join(parts), key)


def test_a_jwe_of_another_algorithm_cannot_be_opened(key: OKPKey) -> None:
    algorithms = ["ECDH-ES+A128KW", "A128GCM"]
    token = jwe.encrypt_compact({"alg": algorithms[0], "enc": algorithms[1]}, "x", key, algorithms=algorithms)

    with pytest.raises(crypto.SecretUnreadableError):
        crypto.unseal(token, key)


def test_a_sealed_secret_that_is_no_text_cannot_be_opened(key: OKPKey) -> None:
    algorithms = ["ECDH-ES", "A256GCM"]
    token = jwe.encrypt_compact({"alg": algorithms[0], "enc": algorithms[1]}, b"\xff", key, algorithms=algorithms)

    with pytest.raises(crypto.SecretUnreadableError):
        crypto.unseal(token, key)


@given(secret=TEXTS)
def test_a_vault_gives_back_what_was_put_in(secret: str) -> None:
    box = vault(Fernet.generate_key())
    token = box.encrypt(SecretStr(secret))

    assert box.decrypt(token).get_secret_value() == secret


def test_a_ciphertext_does_not_show_the_secret() -> None:
    token = vault(Fernet.generate_key()).encrypt(SECRET)

    assert SECRET.get_secret_value().encode() not in token


def test_master_keys_are_exchanged_by_putting_the_new_one_first() -> None:
    old, new = Fernet.generate_key(), Fernet.generate_key()
    written_before = vault(old).encrypt(SECRET)
    written_after = vault(new, old).encrypt(SECRET)

    assert vault(new, old).decrypt(written_before) == SECRET
    assert vault(new).decrypt(written_after) == SECRET
    with pytest.raises(crypto.SecretUnreadableError, match="no master key opens a stored secret; is one missing"):
        vault(new).decrypt(written_before)


def test_a_ciphertext_that_is_encrypted_anew_needs_the_first_key_only() -> None:
    old, new = Fernet.generate_key(), Fernet.generate_key()
    token = vault(new, old).reencrypt(vault(old).encrypt(SECRET))

    assert vault(new).decrypt(token) == SECRET
    assert vault(new).decrypt(vault(new).reencrypt(token)) == SECRET
    with pytest.raises(crypto.SecretUnreadableError, match="MDM_MASTER_KEYS"):
        vault(old).reencrypt(token)


@pytest.mark.parametrize(
    "token",
    [b"", b"no ciphertext", Fernet(Fernet.generate_key()).encrypt(b"x")],
    ids=["empty", "no ciphertext", "of another key"],
)
def test_a_foreign_ciphertext_is_refused(token: bytes) -> None:
    with pytest.raises(crypto.SecretUnreadableError):
        vault(Fernet.generate_key()).decrypt(token)


def test_a_ciphertext_changed_in_one_byte_is_refused() -> None:
    box = vault(Fernet.generate_key())
    token = bytearray(box.encrypt(SECRET))
    token[40] ^= 1

    with pytest.raises(crypto.SecretUnreadableError):
        box.decrypt(bytes(token))


@pytest.mark.parametrize("keys", [(), (b"",), (b"short",), (Fernet.generate_key(), b"short")])
def test_a_vault_without_good_keys_cannot_be_made(keys: tuple[bytes, ...]) -> None:
    with pytest.raises(ValueError, match=r"."):
        vault(*keys)


def test_data_are_read_with_their_own_key_only() -> None:
    key, data = crypto.new_data_key(), bytes(range(256))
    token = crypto.encrypt_data(key, data)
    assert data not in token
    assert crypto.decrypt_data(key, token) == data
    for wrong_key, wrong_token in ((crypto.new_data_key(), token), (key, token[:-4] + b"AAA=")):
        with pytest.raises(crypto.SecretUnreadableError, match="damaged"):
            crypto.decrypt_data(wrong_key, wrong_token)
