from __future__ import annotations

import base64
import hashlib
import json
import re
from dataclasses import replace
from pathlib import Path
from typing import Any
from uuid import UUID

import pytest
from cryptography.hazmat.primitives import hashes, hmac
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey, X25519PublicKey
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from joserfc.jwk import OKPKey
from jwcrypto.common import JWException
from jwcrypto.jwe import JWE
from jwcrypto.jwk import JWK
from pydantic import SecretStr

from device import connection
from shared import crypto
from shared.protocol import topics
from shared.protocol.admin import Package
from tools import vectors

PROOFS = vectors.proofs()["vectors"]
SEALED = vectors.sealed()["vectors"]
MUST_NOT_OPEN = vectors.sealed()["must_not_open"]
TOPICS = list(topics.TOPICS.values())
DOCUMENTS = Path(__file__).parents[3] / "docs"
Vector = dict[str, Any]


def named(vector: Vector) -> str:
    return str(vector.get("name") or vector.get("why") or vector["message"])


def decoded(text: str) -> bytes:
    return base64.urlsafe_b64decode(text + "=" * (-len(text) % 4))


def encoded(data: bytes) -> str:
    return base64.urlsafe_b64encode(data).rstrip(b"=").decode()


def jwk(vector: Vector) -> dict[str, Any]:
    return {"kty": "OKP", "crv": "X25519", "x": vector["public_key"], "d": vector["private_key"]}


@pytest.mark.parametrize("vector", PROOFS, ids=named)
def test_a_proof_is_taken_by_the_services_and_made_by_others(vector: Vector) -> None:
    secret, rotation_id = SecretStr(vector["secret"]), UUID(vector["rotation_id"])
    assert crypto.proves(vector["proof"], secret, vector["purpose"], rotation_id)
    code = hmac.HMAC(vector["secret"].encode(), hashes.SHA256())
    code.update(vector["message"].encode())
    assert code.finalize().hex() == vector["proof"]


@pytest.mark.parametrize("vector", SEALED, ids=named)
def test_a_jwe_is_opened_by_the_reference_device_and_by_another_library(vector: Vector) -> None:
    assert crypto.unseal(vector["jwe"], OKPKey.import_key(jwk(vector))).get_secret_value() == vector["plaintext"]
    token = JWE(algs=["ECDH-ES", "A256GCM"])
    token.deserialize(vector["jwe"], JWK(**jwk(vector)))
    assert token.payload.decode() == vector["plaintext"]


@pytest.mark.parametrize("vector", SEALED, ids=named)
def test_a_jwe_and_each_value_on_the_way_to_it_are_made_by_hand(vector: Vector) -> None:
    own = X25519PrivateKey.from_private_bytes(decoded(vector["private_key"]))
    ephemeral = X25519PrivateKey.from_private_bytes(decoded(vector["ephemeral_private_key"]))
    assert encoded(own.public_key().public_bytes_raw()) == vector["public_key"]
    assert encoded(ephemeral.public_key().public_bytes_raw()) == vector["ephemeral_public_key"]
    shared_secret = ephemeral.exchange(X25519PublicKey.from_public_bytes(decoded(vector["public_key"])))
    assert shared_secret.hex() == vector["shared_secret"]
    hashed = bytes.fromhex("00000001") + shared_secret + bytes.fromhex("00000007") + b"A256GCM"
    hashed += bytes.fromhex("000000000000000000000100")
    assert hashed.hex() == vector["hashed"]
    assert hashlib.sha256(hashed).hexdigest() == vector["content_key"]
    header = vector["jwe"].partition(".")[0]
    assert json.loads(decoded(header)) == {
        "alg": "ECDH-ES",
        "enc": "A256GCM",
        "epk": {"kty": "OKP", "crv": "X25519", "x": vector["ephemeral_public_key"]},
    }
    iv = bytes.fromhex(vector["iv"])
    sealed = AESGCM(bytes.fromhex(vector["content_key"])).encrypt(
        iv, vector["plaintext"].encode(), header.encode()
    )
    assert vector["jwe"] == ".".join((header, "", encoded(iv), encoded(sealed[:-16]), encoded(sealed[-16:])))


@pytest.mark.parametrize("vector", MUST_NOT_OPEN, ids=named)
def test_what_must_not_open_is_opened_by_nobody(vector: Vector) -> None:
    with pytest.raises(crypto.SecretUnreadableError):
        crypto.unseal(vector["jwe"], OKPKey.import_key(jwk(SEALED[0])))
    with pytest.raises((JWException, ValueError)):
        JWE(algs=["ECDH-ES", "A256GCM"]).deserialize(vector["jwe"], JWK(**jwk(SEALED[0])))


def test_the_package_in_a_jwe_is_one() -> None:
    assert Package.model_validate_json(SEALED[1]["plaintext"]).client_id == vectors.CLIENT_ID


def test_the_messages_of_a_rotation_are_what_the_services_read_and_write() -> None:
    said = vectors.rotation()["messages"]
    assert len(said) == 12
    for one in said:
        (topic,) = [topic for topic in TOPICS if topic.match(one["topic"])]
        assert topic.encode(topic.decode(one["payload"].encode())) == one["payload"].encode()
        assert (topic.qos, topic.retain) == (one["qos"], one["retain"])


def test_a_rotation_has_the_proofs_and_the_jwe_of_the_other_vectors() -> None:
    whole = vectors.rotation()
    said = {one["topic"].partition("/rotation/")[2]: json.loads(one["payload"]) for one in whole["messages"]}
    assert [said["stored"]["proof"], said["ack"]["proof"]] == [vector["proof"] for vector in PROOFS[:2]]
    assert said["secret"]["jwe"] == SEALED[0]["jwe"]
    assert (whole["private_key"], whole["new_secret"]) == (SEALED[0]["private_key"], SEALED[0]["plaintext"])


def test_the_guide_shows_the_messages_of_a_rotation_byte_by_byte() -> None:
    text = (DOCUMENTS / "write-a-device.md").read_text(encoding="utf-8")
    shown = re.findall(r"^    ((?:up|down)/\S+) +(\{.*\})$", text, re.MULTILINE)
    prefix = f"mdm/v1/d/{vectors.CLIENT_ID}/"
    said = [(one["topic"].removeprefix(prefix), one["payload"]) for one in vectors.rotation()["messages"]]
    assert [(topic, re.sub(r'"jwe":"[^"]+"', '"jwe":"..."', payload)) for topic, payload in said] == shown


def test_both_offers_of_a_profile_are_read_by_the_reference_device() -> None:
    whole = vectors.connection()
    plain, sealed = (topics.CONNECTION.decode(one["payload"].encode()) for one in whole["offers"])
    assert plain.profile is not None
    assert plain.profile.model_dump_json(exclude_none=True) == whole["profile"]
    assert (sealed.connection_id, sealed.trial_seconds) == (plain.connection_id, plain.trial_seconds)
    key = OKPKey.import_key(
        {"kty": "OKP", "crv": "X25519", "d": whole["private_key"], "x": SEALED[0]["public_key"]}
    )
    assert crypto.unseal(str(sealed.jwe), key).get_secret_value() == whole["profile"]


def test_the_states_of_a_move_are_those_of_the_reference_device() -> None:
    whole = vectors.connection()
    offer = topics.CONNECTION.decode(whole["offers"][0]["payload"].encode())
    assert offer.profile is not None
    offered = connection.of_offer(offer.connection_id, offer.profile)
    package = Package.model_validate_json(SEALED[1]["plaintext"])
    nameless = connection.of_package(package)
    before = connection.answered(connection.begun(replace(nameless, connection_id="0f1e2d3c4b5a6978")))
    on_trial = connection.tried(before, offered)
    moved = connection.answered(on_trial)
    on_fallback = connection.answered(connection.turned(moved))
    reached = [
        connection.begun(nameless),
        before,
        on_trial,
        moved,
        on_fallback,
        connection.tried(on_fallback, offered),
        connection.reverted(on_trial, "no request was answered in time"),
        connection.rejected(before, offer.connection_id, "ca_certificate: is no certificate in PEM"),
    ]
    said = [topics.CONFIG_GET.decode(one["payload"].encode()).connection for one in whole["states"]]
    assert said == [connection.state(slots) for slots in reached]


def test_the_protocol_shows_the_proofs() -> None:
    text = (DOCUMENTS / "protocol.md").read_text(encoding="utf-8")
    for vector in PROOFS[:2]:
        assert re.search(rf"message +{re.escape(vector['message'])}\n +proof +{vector['proof']}\n", text)
