"""Test vectors for who writes a device: docs/vectors/.

They are made by the code that the services run, with fixed keys, and a fixed vector and ephemeral key where it
would draw them. Keys of X25519 are in base64url without padding, as in the protocol, all else is in hexadecimal.
"""

from __future__ import annotations

import base64
import hashlib
import json
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from typing import Any, Final
from unittest.mock import patch
from uuid import UUID

from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.kdf.hkdf import HKDF
from joserfc.jwk import OKPKey
from pydantic import BaseModel, SecretStr

from shared import crypto
from shared.protocol import admin, messages, topics
from shared.protocol.topics import Topic

CLIENT_ID: Final = "iotdevice-blink-mw9agw5m"
_PRESENT: Final = "cHJlc2VudC1zZWNyZXQtb2YtdGhlLWRldmljZS1oZXJl"
ROTATION_ID: Final = UUID("0f8fad5b-d9cb-469f-a165-70867728950e")
SECRET: Final = SecretStr("Zm9ydHktdHdvLWJ5dGVzLW9mLWEtc2VjcmV0LWhlcmU")
_OTHER: Final = (
    SecretStr("7bZ0mQw9_3kXcVtR-5uYhG1sLpEaN8dJfKo2iBnTzWM"),
    UUID("7b1f1d5e-7c7e-4b53-a6f5-0d2d8cf3b4f1"),
)
_PRIVATE: Final = bytes(range(1, 33))
_SERVERS: Final = bytes(range(101, 133))
_PURPOSES: Final[tuple[crypto.Purpose, ...]] = ("stored", "ack", "request", "current")


def proofs() -> dict[str, Any]:
    """Return proofs of two rotations."""
    pairs = ((SECRET, ROTATION_ID), _OTHER)
    return {
        "what": "proof = hexadecimal HMAC-SHA256, key: the characters of secret, over the characters of message",
        "vectors": [
            {
                "secret": secret.get_secret_value(),
                "rotation_id": str(rotation_id),
                "purpose": purpose,
                "message": f"{purpose}:{rotation_id}",
                "proof": crypto.proof(secret, purpose, rotation_id),
            }
            for secret, rotation_id in pairs
            for purpose in _PURPOSES
        ],
    }


def sealed() -> dict[str, Any]:
    """Return sealed texts with all that they are made of, and some that must not open."""
    package = admin.Package(
        client_id=CLIENT_ID,
        device_key="mw9agw5m",
        secret=SECRET.get_secret_value(),
        secret_generation=1,
        token_url="https://keycloak.example.org/realms/iot/protocol/openid-connect/token",  # noqa: S106 - an address
        mqtt_host="broker.example.org",
        mqtt_port=8883,
        mqtt_tls=True,
        ca_certificate=None,
    )
    secret = _sealed("the secret of a rotation", SECRET.get_secret_value())
    jwe = str(secret["jwe"])
    body, _, tag = jwe.rpartition(".")
    turned = ("B" if tag[0] == "A" else "A") + tag[1:]
    header = _b64(b'{"alg":"ECDH-ES","enc":"A256GCM"}')
    return {
        "what": "compact JWE (RFC 7516), ECDH-ES with A256GCM; the ephemeral key and iv are random in real ones",
        "vectors": [secret, _sealed("the package of a claim", package.model_dump_json(), drawn=1)],
        "must_not_open": [
            {"why": "another tag", "jwe": f"{body}.{turned}"},
            {"why": "no key of the sender", "jwe": f"{header}.{jwe.partition('.')[2]}"},
            {"why": "cut off", "jwe": body},
        ],
    }


def rotation() -> dict[str, Any]:
    """Return what a device and the services say to each other, from the login to the end of a rotation."""
    public_key = crypto.public_half(_key(_PRIVATE))
    deadline = datetime(2026, 11, 25, 15, 5, tzinfo=UTC)
    ids: dict[str, Any] = {"rotation_id": ROTATION_ID}
    new = {**ids, "generation": 2}
    jwe = str(_sealed("", SECRET.get_secret_value())["jwe"])
    present = SecretStr(_PRESENT)
    request, current = (crypto.proof(present, purpose, ROTATION_ID) for purpose in _PURPOSES[2:])
    stored, ack = (crypto.proof(SECRET, purpose, ROTATION_ID) for purpose in _PURPOSES[:2])
    said: list[tuple[Topic[Any], BaseModel]] = [
        (topics.STATUS, messages.Status(online=True, firmware_version="1.0.0", secret_generation=1)),
        (topics.CONFIG_GET, messages.ConfigGet(request_id="c1")),
        (
            topics.CONFIG,
            messages.Config(request_id="c1", version=1, document={"interval_s": 60}, secret_generation=1),
        ),
        (topics.CONFIG_REPORT, messages.ConfigReport(version=1, outcome=messages.ConfigOutcome.APPLIED)),
        (topics.ROTATION_OFFER, messages.RotationOffer(**new, deadline=deadline, current_generation=1)),
        (topics.ROTATION_REQUEST, messages.RotationRequest(**ids, public_key=public_key, proof=request)),
        (topics.ROTATION_SECRET, messages.RotationSecret(**new, jwe=jwe)),
        (topics.ROTATION_STORED, messages.RotationStored(**ids, proof=stored, current_proof=current)),
        (topics.ROTATION_SWITCH, messages.RotationSwitch(**new)),
        (topics.STATUS, messages.Status(online=True, firmware_version="1.0.0", secret_generation=2)),
        (topics.ROTATION_ACK, messages.RotationAck(**ids, proof=ack)),
        (topics.ROTATION_DONE, messages.RotationDone(**new)),
    ]
    return {
        "what": "the messages of a rotation in their order; private_key is the device's own",
        "client_id": CLIENT_ID,
        "private_key": _b64(_PRIVATE),
        "present_secret": _PRESENT,
        "new_secret": SECRET.get_secret_value(),
        "messages": [
            {
                "topic": topic.of(client_id=CLIENT_ID),
                "payload": topic.encode(message).decode(),
                "qos": topic.qos,
                "retain": topic.retain,
            }
            for topic, message in said
        ],
    }


def recovery() -> dict[str, Any]:
    """Return how a device proves who it is when it asks for the secret in force, step by step."""
    device, server = _key(_PRIVATE), _key(_SERVERS)
    nonce = bytes(range(16)).hex()
    mac = crypto.recovery_mac(device, crypto.public_half(server), CLIENT_ID, nonce)
    shared_secret = device.exchange_derive_key(server)
    key = HKDF(algorithm=SHA256(), length=32, salt=None, info=b"mdm/v1/recover").derive(shared_secret)
    return {
        "what": "mac = hexadecimal HMAC-SHA256, key: HKDF-SHA256 (no salt, info mdm/v1/recover, 32 bytes) of "
        "shared_secret, over the characters of message",
        "registering": {
            "what": "proof = hexadecimal HMAC-SHA256, key: the characters of secret, over those of message",
            "secret": _PRESENT,
            "message": f"key:{crypto.public_half(device)}",
            "proof": crypto.key_proof(SecretStr(_PRESENT), crypto.public_half(device)),
        },
        "vectors": [
            {
                "client_id": CLIENT_ID,
                "device_private_key": _b64(_PRIVATE),
                "device_public_key": crypto.public_half(device),
                "server_private_key": _b64(_SERVERS),
                "server_public_key": crypto.public_half(server),
                "shared_secret": shared_secret.hex(),
                "key": key.hex(),
                "nonce": nonce,
                "message": f"recover:{CLIENT_ID}:{nonce}",
                "mac": mac,
                "request": {
                    "topic": topics.RECOVER_REQUEST.of(account="recover-07"),
                    "payload": topics.RECOVER_REQUEST.encode(
                        messages.RecoverRequest(client_id=CLIENT_ID, nonce=nonce, mac=mac)
                    ).decode(),
                },
            }
        ],
    }


def _sealed(name: str, text: str, *, drawn: int = 0) -> dict[str, object]:
    """Return a text sealed with the ephemeral key and vector of this number: no pair is used twice."""
    own, ephemeral = _key(_PRIVATE), _key(bytes(range(101 + drawn, 133 + drawn)))
    vector = bytes(range(drawn, 12 + drawn))
    with _fixed(ephemeral, vector):
        jwe = crypto.seal(SecretStr(text), crypto.public_half(own))
    shared_secret = own.exchange_derive_key(ephemeral)
    hashed = b"\0\0\0\1" + shared_secret + b"\0\0\0\7A256GCM" + bytes(8) + b"\0\0\1\0"
    return {
        "name": name,
        "private_key": _b64(_PRIVATE),
        "public_key": crypto.public_half(own),
        "ephemeral_private_key": ephemeral.as_dict(private=True)["d"],
        "ephemeral_public_key": crypto.public_half(ephemeral),
        "iv": vector.hex(),
        "shared_secret": shared_secret.hex(),
        "hashed": hashed.hex(),
        "content_key": hashlib.sha256(hashed).hexdigest(),
        "jwe": jwe,
        "plaintext": text,
    }


@contextmanager
def _fixed(ephemeral: OKPKey, vector: bytes) -> Iterator[None]:
    """Let a text be sealed with this key pair and initialisation vector instead of new ones."""
    with (
        patch.object(OKPKey, "generate_key", return_value=ephemeral),
        patch("secrets.token_bytes", return_value=vector),
    ):
        yield


def _key(private: bytes) -> OKPKey:
    public = X25519PrivateKey.from_private_bytes(private).public_key().public_bytes_raw()
    return OKPKey.import_key({"kty": "OKP", "crv": "X25519", "d": _b64(private), "x": _b64(public)})


def _b64(data: bytes) -> str:
    return base64.urlsafe_b64encode(data).rstrip(b"=").decode()


def text(make: Callable[[], dict[str, Any]]) -> str:
    """Return vectors as they stand in their file."""
    return json.dumps(make(), indent=2) + "\n"


FILES: Final[dict[str, Callable[[], dict[str, Any]]]] = {
    "proofs.json": proofs,
    "jwe.json": sealed,
    "rotation.json": rotation,
    "recovery.json": recovery,
}
