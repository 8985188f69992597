"""Provisioning packages: all that a new device needs to come online."""

from __future__ import annotations

from shared.admin import Package
from shared.keycloak import Identity
from shared.settings import RegistrySettings


def package(identity: Identity, *, device_key: str, token_url: str, settings: RegistrySettings) -> Package:
    """Return the package of a device; it holds the secret, so it must be neither logged nor stored."""
    ca = settings.device_ca_file
    return Package(
        client_id=identity.client_id,
        device_key=device_key,
        secret=identity.secret.get_secret_value(),
        secret_generation=identity.generation,
        token_url=token_url,
        mqtt_host=settings.device_mqtt_host,
        mqtt_port=settings.device_mqtt_port,
        mqtt_tls=settings.device_mqtt_tls,
        ca_certificate=ca.read_text() if ca else None,
    )
