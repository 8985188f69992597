"""Packages of a device that exists in unit tests only."""

from __future__ import annotations

import base64
import json
from typing import Final

from joserfc.jwk import OKPKey
from pydantic import SecretStr

from shared import crypto
from tests.sdk.core import Core

CLIENT: Final = "iotdevice-blink-mw9agw5m"
SECRET: Final = "cHJlc2VudC1zZWNyZXQtb2YtdGhlLWRldmljZS1oZXJl"
SERVER: Final = crypto.new_key_pair()
RECOVERY: Final = {
    "port": 8884,
    "account": "recover-07",
    "password": "recover-07",
    "server_key": crypto.public_half(SERVER),
}


def package(**fields: object) -> bytes:
    """Return a package."""
    usual = {
        "format": "mdm-package/1",
        "client_id": CLIENT,
        "device_key": "mw9agw5m",
        "secret": SECRET,
        "secret_generation": 1,
        "token_url": "https://keycloak.example/token",
        "mqtt_host": "broker.example",
        "mqtt_port": 8883,
        "mqtt_tls": True,
        "ca_certificate": "-----BEGIN CERTIFICATE-----\nMIIB\n-----END CERTIFICATE-----\n",
        "recovery": RECOVERY,
    }
    return json.dumps(usual | fields).encode()


def key_of(core: Core) -> OKPKey:
    """Return the key pair of a device."""
    private = bytes(core.m.key)
    public = core.ffi.string(core.m.public_key).decode()
    return crypto.key_pair(public, SecretStr(_base64url(private)))


def _base64url(data: bytes) -> str:
    return base64.urlsafe_b64encode(data).rstrip(b"=").decode()
