"""A service's own connection to the broker, with its health in a retained message."""

from __future__ import annotations

import os
import socket
from datetime import UTC, datetime

from shared import topics
from shared.messages import ServiceStatus
from shared.mqtt import Account, Connection
from shared.settings import Settings


def connection_of(service: str, settings: Settings, *, role: str | None = None) -> Connection:
    """Return the connection of this process of a service, not yet up."""
    instance = f"{socket.gethostname()}-{os.getpid()}"
    topic = topics.SERVICE_STATUS.of(name=service, instance=instance)
    offline = topics.SERVICE_STATUS.encode(ServiceStatus(online=False))
    since = datetime.now(UTC)

    def greeting() -> tuple[str, bytes]:
        return topic, topics.SERVICE_STATUS.encode(ServiceStatus(online=True, role=role, since=since))

    return Connection(
        account=Account(settings.mqtt_host, settings.mqtt_port, f"svc-{service}", settings.mqtt_password),
        identifier=f"{service}-{instance}",
        will=(topic, offline),
        greeting=greeting,
    )
