"""A service's own connection to the broker, with its status in a retained message."""

from __future__ import annotations

import contextlib
import os
import secrets
import socket
from contextlib import AbstractAsyncContextManager
from datetime import UTC, datetime

from shared.database.engine import Database
from shared.errors import UnavailableError
from shared.mqtt.connection import Account, Connection
from shared.mqtt.rates import Rate
from shared.protocol import topics
from shared.protocol.messages import ServiceStatus
from shared.runtime import health
from shared.runtime.settings import ServiceSettings


def _instance() -> str:
    """Return the id of this process among its replicas."""
    return f"{socket.gethostname()}-{os.getpid()}"


def connection_of(service: str, settings: ServiceSettings, *, suffix: str = "") -> Connection:
    """Return a connection with the service's own account, not yet up."""
    account = Account(
        settings.mqtt_host,
        settings.mqtt_port,
        f"svc-{service}",
        settings.mqtt_password,
        token_url=settings.mqtt_token_url,
    )
    # Random: a client that knows the MQTT client id of another connection can end it.
    connection = Connection(account, f"{service}-{_instance()}{suffix}-{secrets.token_hex(8)}")
    connection.dispatcher.admission.limit("client_id", Rate(settings.device_rate_per_s, settings.device_burst))
    return connection


class Health:
    """Publishes on `services/{name}/{instance}/status` that this process runs, and its role."""

    def __init__(self, service: str, settings: ServiceSettings, *, role: str | None = None) -> None:
        self._topic = topics.SERVICE_STATUS.of(name=service, instance=_instance())
        self._file = settings.health_file
        self._status = ServiceStatus(online=True, role=role, since=datetime.now(UTC))
        self.connection = connection_of(service, settings)
        self.connection.will = (self._topic, topics.SERVICE_STATUS.encode(ServiceStatus(online=False)))
        self.connection.birth = self._birth

    async def announce(self, role: str) -> None:
        """Take a role and publish it now, or at the next connect if the broker is unavailable."""
        self._status = self._status.model_copy(update={"role": role, "since": datetime.now(UTC)})
        with contextlib.suppress(UnavailableError):
            await self.connection.publish(*self._birth(), retain=True)

    def kept_fresh(self, database: Database) -> AbstractAsyncContextManager[None]:
        """Keep the file of the health check (`MDM_HEALTH_FILE`) fresh while the block runs."""

        async def works() -> bool:
            return self.connection.is_up and await database.answers()

        return health.kept_fresh(self._file, works)

    def _birth(self) -> tuple[str, bytes]:
        return self._topic, topics.SERVICE_STATUS.encode(self._status)
