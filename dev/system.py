"""The three services as processes on a running stack, with their settings."""

from __future__ import annotations

import asyncio
import json
from collections import Counter
from collections.abc import AsyncIterator, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, asynccontextmanager, contextmanager
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Final

import httpx
from cryptography.fernet import Fernet
from prometheus_client.parser import text_string_to_metric_families
from prometheus_client.samples import Sample
from pydantic import SecretStr

from cli.profile import Profile
from dev.crash_injection import FOLDER, CrashPlan
from dev.servers.base import HOST, Leash, Process, free_port
from dev.servers.fork_server import ForkedProcess
from dev.stack import OWNER, Stack
from dev.waiting import until
from shared.database import grants, migrate

SERVICES: Final = ("registry", "rotator", "firmware")
_CONNECTIONS: Final = {"registry": 2, "firmware": 2}
"""How many connections a service makes before it takes all messages, if more than one."""
_ROOT: Final = Path(__file__).parent.parent
_HTTP: Final = httpx.Client()
"""Shared, because creating a client takes longer than a request."""
PAGE: Final = _ROOT / "web/dist"
"""The web page that `make web` has built, if any."""


def _new_key() -> str:
    return Fernet.generate_key().decode()


@dataclass(frozen=True, slots=True)
class System:
    """The services; `settings` are the environment variables of all of them.

    `own` are the variables of one service, by its name, as services share no database user or master key.
    """

    stack: Stack
    settings: Mapping[str, str]
    own: Mapping[str, Mapping[str, str]]
    leash: Leash
    services: dict[str, Process] = field(default_factory=dict)
    metrics_ports: dict[str, int] = field(default_factory=dict)
    http_ports: dict[str, int] = field(default_factory=dict)
    """URLs where firmware services serve images, by service name."""

    @property
    def profile(self) -> Profile:
        """The connection settings of an admin."""
        endpoints = self.stack.endpoints
        return Profile(
            host=endpoints.mqtt_host,
            port=endpoints.mqtt_port,
            account="admin",
            password=SecretStr(endpoints.accounts["admin"]),
        )

    def environment(self, service: str) -> dict[str, str]:
        """Return the settings of one service, including the password of its account."""
        endpoints = self.stack.endpoints
        keycloak_client = "mdm-rotator" if service == "rotator" else "mdm-registry"
        return {
            **self.settings,
            **self.own[service],
            "MDM_MQTT_PASSWORD": endpoints.accounts[f"svc-{service}"],
            "MDM_KEYCLOAK_CLIENT_ID": keycloak_client,
            "MDM_KEYCLOAK_CLIENT_SECRET": endpoints.keycloak_clients[keycloak_client],
        }

    def start(
        self,
        service: str,
        *,
        name: str | None = None,
        fate: CrashPlan | None = None,
        max_files: str | None = None,
        **settings: str,
    ) -> Process:
        """Start a service, or another replica under another name; return when it is ready for messages.

        With `fate`, it runs under dev.crash_injection; `max_files` is its limit of open files, hard and soft.
        """
        name = name or service
        port = self.metrics_ports.setdefault(name, free_port())
        log_file = self.stack.folder / "logs" / f"{name}.log"

        def is_ready() -> bool:
            lines = process.log_since().splitlines()
            made = sum(b"mqtt.connected" in line and f"svc-{service}".encode() in line for line in lines)
            return made >= _CONNECTIONS.get(service, 1)

        process = ForkedProcess(
            name,
            log_file,
            is_ready,
            [*(["dev.crash_injection"] if fate else []), f"services.{service}.main"],
            leash=self.leash,
            environment={
                **self.environment(service),
                "MDM_METRICS_PORT": str(port),
                **(self.http(name) if service == "firmware" else {}),
                "PYTHONPATH": str(_ROOT),
                **({FOLDER: str(fate.folder)} if fate else {}),
                **settings,
            },
        )
        process.max_files = max_files
        process.start()
        self.services[name] = process
        return process

    async def restart(
        self, service: str, *, fate: CrashPlan | None = None, max_files: str | None = None, **settings: str
    ) -> None:
        """Restart a service cleanly with other settings, or the usual ones."""
        await asyncio.to_thread(self.stop, service)
        start = partial(self.start, service, name=None, fate=fate, max_files=max_files, **settings)
        await asyncio.to_thread(start)

    @asynccontextmanager
    async def altered(
        self, service: str, *, fate: CrashPlan | None = None, max_files: str | None = None, **settings: str
    ) -> AsyncIterator[None]:
        """Run a service with other settings until the block ends."""
        await self.restart(service, fate=fate, max_files=max_files, **settings)
        try:
            yield
        finally:
            await self.restart(service)

    def http(self, name: str) -> dict[str, str]:
        """Return the settings of a firmware service to serve images and page with the broker's certificate."""
        port = self.http_ports.setdefault(name, self.stack.installation.port(name))
        certificates = self.stack.endpoints.ca_file.parent
        return {
            "MDM_HTTP_PORT": str(port),
            "MDM_HTTP_URL": f"https://{HOST}:{port}",
            "MDM_HTTP_CERTIFICATE_FILE": str(certificates / "server.crt"),
            "MDM_HTTP_KEY_FILE": str(certificates / "server.key"),
            **({"MDM_WEB_DIR": str(PAGE)} if PAGE.exists() else {}),
            "MDM_WEB_BROKER_URL": f"wss://{{host}}:{self.stack.endpoints.web_mqtt_port}",
        }

    def counted(self, name: str, topic: str) -> Counter[str]:
        """Return the number of messages with a topic template that a service has handled, by outcome."""
        return Counter(
            {
                sample.labels["outcome"]: int(sample.value)
                for sample in self.samples(name, "mdm_messages_total")
                if sample.labels["topic"] == topic
            }
        )

    def samples(self, name: str, metric: str) -> list[Sample]:
        """Return the values of a metric of a service."""
        text = _HTTP.get(f"http://{HOST}:{self.metrics_ports[name]}/metrics").text
        families = text_string_to_metric_families(text)
        return [sample for family in families for sample in family.samples if sample.name == metric]

    async def compared(self, name: str = "registry") -> None:
        """Wait until a registry has compared all since it, or the broker, has started.

        It would repair what a test breaks meanwhile.
        """
        await until(lambda: asyncio.to_thread(self._has_compared, name))

    def _has_compared(self, name: str) -> bool:
        known: set[tuple[str, int]] = set()
        done = False
        for line in self.services[name].log_since().splitlines():
            if b'"mqtt.connected"' in line:
                said = json.loads(line)
                connection = said["account"], said["routes"]
                # The first time it compares by itself, perhaps before the last of its connections is up.
                done = done and connection not in known
                known.add(connection)
            done = done or b'"registry.reconciled"' in line
        return done

    async def takes(self, name: str, topic: str, outcome: str, *, beyond: int) -> None:
        """Wait until a service has handled more than `beyond` messages with this outcome."""
        await until(lambda: asyncio.to_thread(self.counted, name, topic), lambda counts: counts[outcome] > beyond)

    def stop(self, name: str) -> None:
        """Stop a service cleanly."""
        self.services.pop(name).stop()

    def stop_all(self) -> None:
        """Stop all services cleanly."""
        for name in list(self.services):
            self.stop(name)


@contextmanager
def running(stack: Stack, **settings: str) -> Iterator[System]:
    """Migrate the database and run the three services until the block ends."""
    endpoints = stack.endpoints
    migrate.upgrade(endpoints.database_users[OWNER])
    own: dict[str, dict[str, str]] = {
        service: {
            "MDM_DATABASE_URL": endpoints.database_users[user],
            "MDM_MASTER_KEYS": stack.installation.secret(f"master key {service}", _new_key),
        }
        for service, user in grants.USERS.items()
    }
    common = {
        "MDM_MQTT_HOST": endpoints.mqtt_host,
        "MDM_MQTT_PORT": str(endpoints.mqtt_port),
        "MDM_ACCOUNTS_PASSWORD": endpoints.accounts["svc-accounts"],
        "MDM_KEYCLOAK_URL": endpoints.keycloak_url,
        "MDM_KEYCLOAK_REALM": endpoints.realm,
        # A scheduled run would queue the devices of all tests.
        "MDM_ROTATION_SCHEDULE": "",
        # Differences caused by tests must not be repaired before their assertions.
        "MDM_RECONCILE_S": "86400",
        "MDM_ASSETS_URL": f"file://{stack.folder}/assets",
        "MDM_ASSETS_DIR": f"{stack.folder}/shelf",
        "MDM_DEVICE_MQTT_HOST": endpoints.mqtt_host,
        "MDM_DEVICE_MQTT_PORT": str(endpoints.device_mqtt_port),
        "MDM_CLAIM_MQTT_PORT": str(endpoints.claim_mqtt_port),
        "MDM_DEVICE_CA_FILE": str(endpoints.ca_file),
        # Services reach Keycloak without TLS, but each of their HTTP clients would read the usual authorities.
        "SSL_CERT_FILE": str(endpoints.ca_file),
        **settings,
    }
    with ExitStack() as cleanup:
        leash = Leash()
        cleanup.callback(leash.close)
        system = System(stack, common, own, leash)
        cleanup.callback(system.stop_all)
        with ThreadPoolExecutor() as threads:
            list(threads.map(system.start, SERVICES))
        yield system
