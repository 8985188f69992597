"""Provisioning packages: all that a new device needs to connect."""

from __future__ import annotations

from shared.auth.keycloak import Identity
from shared.errors import InvalidInputError
from shared.protocol import admin, nvs
from shared.protocol.admin import Package
from shared.protocol.messages import ConnectionProfile, Recovery, WifiNetwork


def package(
    identity: Identity,
    *,
    device_key: str,
    connection_id: str,
    profile: ConnectionProfile,
    recovery: Recovery | None,
) -> Package:
    """Return the package of a device; it has the secret, so it must be neither logged nor stored."""
    if recovery is not None and profile.recovery_port is not None:
        recovery = recovery.model_copy(update={"port": profile.recovery_port})
    return Package(
        client_id=identity.client_id,
        device_key=device_key,
        secret=identity.secret.get_secret_value(),
        secret_generation=identity.generation,
        token_url=profile.token_url,
        mqtt_host=profile.mqtt_host,
        mqtt_port=profile.mqtt_port,
        mqtt_tls=profile.mqtt_tls,
        mqtt_auth=profile.mqtt_auth,
        ca_certificate=profile.ca_certificate,
        recovery=recovery,
        connection_id=connection_id,
        wifi=profile.wifi,
    )


def wifi(request: admin.DeviceNvs) -> WifiNetwork | None:
    """Return the network in a request, if any, or raise InvalidInputError."""
    if request.wifi_ssid is not None:
        return nvs.network(request.wifi_ssid, request.wifi_password)
    if request.wifi_password:
        raise InvalidInputError("wifi_password: needs wifi_ssid")
    return None
