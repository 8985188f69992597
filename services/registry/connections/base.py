"""The lowest layer: the profile that the registry's settings describe.

It is recorded as a row, so that replicas agree on it while their settings are changed one after the other: the one
whose settings changed last decides.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Final

import structlog
from pydantic import ValidationError
from sqlalchemy import select

from services.registry.connections import layers
from services.registry.connections import queries as connection_queries
from services.registry.context import Registry
from shared import authorities
from shared.database.tables import ConnectionLayer
from shared.errors import InvalidInputError
from shared.protocol import flaws, wording
from shared.protocol.messages import ConnectionProfile

log = structlog.get_logger()

EVERY_S: Final = 30.0
"""How often the file of the authority is read."""
AUTHOR: Final = "settings"
_CA_FILE: Final = "MDM_DEVICE_CA_FILE"
_SETTINGS: Final = {
    "mqtt_host": "MDM_DEVICE_MQTT_HOST",
    "mqtt_port": "MDM_DEVICE_MQTT_PORT",
    "mqtt_tls": "MDM_DEVICE_MQTT_TLS",
    "mqtt_auth": "MDM_BROKER_AUTH",
    "token_url": "MDM_KEYCLOAK_PUBLIC_URL or MDM_KEYCLOAK_URL",
    "ca_certificate": _CA_FILE,
    "recovery_port": "MDM_CLAIM_MQTT_PORT",
}


def document(registry: Registry) -> dict[str, Any]:
    """Return the profile of the settings, or raise InvalidInputError naming the setting and the rule."""
    settings = registry.settings
    try:
        profile = ConnectionProfile(
            mqtt_host=settings.device_mqtt_host,
            mqtt_port=settings.device_mqtt_port,
            mqtt_tls=settings.device_mqtt_tls,
            mqtt_auth="token" if settings.broker_auth == "token" else "password",
            token_url=registry.identities.keycloak.token_url,
            ca_certificate=_authorities(registry),
            recovery_port=settings.claim_mqtt_port if settings.broker_auth == "passwords" else None,
        )
    except ValidationError as error:
        rules = [f"{_SETTINGS[str(it['loc'][0])]}: {wording.rule(it)}" for it in flaws.faults(error)]
        raise InvalidInputError("; ".join(rules)) from None
    return profile.model_dump(mode="json", exclude_none=True)


def _authorities(registry: Registry) -> str | None:
    file = registry.settings.device_ca_file
    if file is None:
        return None
    try:
        text = file.read_text()
    except (OSError, ValueError) as error:
        raise InvalidInputError(f"{_CA_FILE}: {file} cannot be read: {error}") from None
    return authorities.normalized(authorities.read(text, field=_CA_FILE))


@dataclass(slots=True)
class SettingsRecorder:
    """Records the profile of the settings whenever it has changed since this process looked last."""

    registry: Registry
    _seen: dict[str, Any] | None = None
    _number: int = 0

    async def record(self) -> None:
        """Record a changed profile; an unusable file, as one that is just being written, changes nothing."""
        try:
            found = document(self.registry)
        except InvalidInputError as error:
            log.warning("connection.settings_refused", reason=error.message)
            return
        self.registry.connection_base = found
        async with self.registry.database.transaction() as session:
            await connection_queries.lock(session)
            newest = await session.scalar(
                select(ConnectionLayer)
                .where(ConnectionLayer.scope == "settings")
                .order_by(ConnectionLayer.number.desc())
                .limit(1)
            )
            # An older row than the one that was seen: the database is an earlier copy.
            is_lost = newest is None or newest.number < self._number
            if newest is None or (newest.document != found and (found != self._seen or is_lost)):
                layer = ConnectionLayer(scope="settings", document=found, author=AUTHOR)
                newest = await layers.add(session, self.registry, layer)
            self._seen, self._number = found, newest.number
