"""Provisioning packages: all that a new device needs to connect."""

from __future__ import annotations

from shared.auth.keycloak import Identity
from shared.errors import InvalidInputError
from shared.protocol import admin
from shared.protocol.admin import Package
from shared.protocol.messages import Recovery
from shared.protocol.nvs import Wifi
from shared.runtime.settings import RegistrySettings


def package(
    identity: Identity,
    *,
    device_key: str,
    token_url: str,
    settings: RegistrySettings,
    recovery: Recovery | None,
) -> Package:
    """Return the package of a device; it has the secret, so it must be neither logged nor stored."""
    return Package(
        client_id=identity.client_id,
        device_key=device_key,
        secret=identity.secret.get_secret_value(),
        secret_generation=identity.generation,
        token_url=token_url,
        mqtt_host=settings.device_mqtt_host,
        mqtt_port=settings.device_mqtt_port,
        mqtt_tls=settings.device_mqtt_tls,
        mqtt_auth="token" if settings.broker_auth == "token" else "password",
        ca_certificate=ca_certificate(settings),
        recovery=recovery,
    )


def wifi(request: admin.DeviceNvs) -> Wifi | None:
    """Return the network in a request, if any, or raise InvalidInputError."""
    if request.wifi_ssid is not None:
        return Wifi(request.wifi_ssid, request.wifi_password)
    if request.wifi_password:
        raise InvalidInputError("wifi_password: needs wifi_ssid")
    return None


def ca_certificate(settings: RegistrySettings) -> str | None:
    """Return the authority that devices must trust, as PEM, or None."""
    return settings.device_ca_file.read_text() if settings.device_ca_file else None
