"""PostgreSQL, Mosquitto and Keycloak for tests and `make run`, in a scratch folder.

`python -m dev.stack` starts them, prints their addresses and waits for Ctrl-C.
"""

from __future__ import annotations

import asyncio
import os
import signal
import sys
import tempfile
import threading
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Final

import asyncpg
from sqlalchemy import make_url

from deploy import broker
from deploy.homelab import databases
from dev.installation import LocalInstallation
from dev.servers import base, containers, keycloak, mosquitto, postgres
from shared.database import grants

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping
    from types import FrameType

OWNER: Final = "mdm_owner"
"""The database user of migrations."""


@dataclass(frozen=True, slots=True)
class Endpoints:
    """Addresses and credentials for clients."""

    database_url: str
    """As the superuser, for tests."""
    database_users: Mapping[str, str]
    """The URLs for the tables' owner, the services and backups, by user name."""
    keycloak_url: str
    realm: str
    keycloak_clients: Mapping[str, str]
    mqtt_host: str
    mqtt_port: int
    device_mqtt_port: int
    claim_mqtt_port: int
    web_mqtt_port: int
    ca_file: Path
    accounts: Mapping[str, str]


@dataclass(frozen=True, slots=True)
class Stack:
    """The running servers; each can be stopped, killed and restarted, with its port and data."""

    endpoints: Endpoints
    folder: Path
    installation: LocalInstallation
    postgres: base.Server
    broker: base.Server
    keycloak: base.Server


@contextmanager
def scratch(purpose: str = "") -> Iterator[Path]:
    """Create a folder that exists until the block ends.

    It is not below pytest's own, which only its owner may enter: as root, PostgreSQL runs as another user.
    """
    with tempfile.TemporaryDirectory(prefix=f"device-mdm-{purpose}", dir="/tmp") as name:
        folder = Path(name)
        folder.chmod(0o755)
        yield folder


def _print_line(text: str) -> None:
    sys.stderr.write(text + "\n")


@contextmanager
def running(
    folder: Path,
    *,
    progress: Callable[[str], None] = _print_line,
    durable: bool = True,
    installation: LocalInstallation | None = None,
) -> Iterator[Stack]:
    """Start the three servers with their data and logs below `folder`, and stop them at exit.

    They run as processes of this machine, or as containers when TESTS_STACK is "containers", or when it is unset
    and a Docker engine has the images. All users must be able to enter `folder`, as one of `scratch`.
    `durable=False` makes PostgreSQL faster, but its data may not survive a crash of the machine. `installation`
    has the ports and secrets, by default new ones.
    """
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "logs").mkdir(exist_ok=True)
    with _sigterm_as_exit(), ExitStack() as cleanup:
        stack = _prepare(folder, installation or LocalInstallation(), progress, cleanup, durable=durable)
        servers = (stack.postgres, stack.broker, stack.keycloak)
        cleanup.callback(_on_all, servers, lambda server: server.stop())
        _on_all(servers, lambda server: server.start())
        asyncio.run(_make_users(stack.endpoints))
        yield stack


async def _make_users(endpoints: Endpoints) -> None:
    """Create the database users of an installation; none of them is a superuser."""
    passwords = {name: str(make_url(url).password) for name, url in endpoints.database_users.items()}
    connection = await asyncpg.connect(endpoints.database_url.replace("+asyncpg", ""))
    try:
        await databases.ensure_user(connection, OWNER, passwords.pop(OWNER))
        await connection.execute(f"ALTER DATABASE {postgres.DATABASE} OWNER TO {OWNER}")
        await databases.ensure_services(connection, postgres.DATABASE, OWNER, passwords)
    finally:
        await connection.close()


def _prepare(
    folder: Path,
    installation: LocalInstallation,
    progress: Callable[[str], None],
    cleanup: ExitStack,
    *,
    durable: bool,
) -> Stack:
    accounts = {name: installation.secret(f"account {name}") for name in broker.ACCOUNTS}
    database_password = installation.secret("database")
    database_port, keycloak_port = installation.port("database"), installation.port("keycloak")
    mqtt_ports = tuple(map(installation.port, ("services", "devices", "claims", "pages")))
    mqtt_port, device_mqtt_port, claim_mqtt_port, web_mqtt_port = mqtt_ports
    in_containers = _wants_containers()
    if in_containers:
        realm, clients = keycloak.realm()
    else:
        new = keycloak.clients(keycloak.ensure_template(progress))
        clients = {name: installation.secret(f"client {name}", partial(str, made)) for name, made in new.items()}
    endpoints = Endpoints(
        database_url=postgres.url(database_port, database_password),
        database_users={
            name: postgres.url(database_port, installation.secret(f"database {name}"), user=name)
            for name in (OWNER, *grants.USERS.values(), grants.BACKUP_USER)
        },
        keycloak_url=f"http://{base.HOST}:{keycloak_port}",
        realm=keycloak.REALM,
        keycloak_clients=clients,
        mqtt_host=base.HOST,
        mqtt_port=mqtt_port,
        device_mqtt_port=device_mqtt_port,
        claim_mqtt_port=claim_mqtt_port,
        web_mqtt_port=web_mqtt_port,
        ca_file=folder / "certificates/ca.crt",
        accounts=accounts,
    )
    if in_containers:
        progress("stack: starting containers")
        made = (
            containers.postgres(folder, database_port, database_password, durable=durable),
            containers.mosquitto(folder, *mqtt_ports, accounts=accounts),
            containers.keycloak(folder, keycloak_port, realm),
        )
        for container in made:
            cleanup.callback(container.remove)
        return Stack(endpoints, folder, installation, *made)
    progress("stack: starting PostgreSQL, Mosquitto and Keycloak")
    leash = base.Leash()
    cleanup.callback(leash.close)
    return Stack(
        endpoints,
        folder,
        installation,
        postgres.Postgres(folder, database_port, database_password, leash=leash, durable=durable),
        mosquitto.MosquittoProcess(folder, *mqtt_ports, accounts=accounts, leash=leash),
        keycloak.KeycloakProcess(folder, keycloak_port, leash=leash),
    )


def _wants_containers() -> bool:
    mode = os.environ.get("TESTS_STACK", "")
    if mode not in {"", "native", "containers"}:
        raise ValueError(f"TESTS_STACK: must be native or containers, is {mode!r}")
    return mode == "containers" or (not mode and containers.available())


def _on_all(servers: tuple[base.Server, ...], action: Callable[[base.Server], None]) -> None:
    """Run an operation on all servers at once; when all are done, raise the first error."""
    with ThreadPoolExecutor(len(servers)) as pool:
        done = [pool.submit(action, server) for server in servers]
    for future in done:
        future.result()


@contextmanager
def _sigterm_as_exit() -> Iterator[None]:
    """Let SIGTERM unwind the stack instead of ending this process at once, unless it has another handler."""
    is_main = threading.current_thread() is threading.main_thread()
    if not is_main or signal.getsignal(signal.SIGTERM) is not signal.SIG_DFL:
        yield
        return

    def leave(number: int, _frame: FrameType | None) -> None:
        sys.exit(128 + number)

    signal.signal(signal.SIGTERM, leave)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, signal.SIG_DFL)


def main() -> None:
    """Start the stack and wait for Ctrl-C."""
    with scratch() as folder, running(folder) as stack:
        for field in Endpoints.__slots__:
            sys.stdout.write(f"{field}: {getattr(stack.endpoints, field)}\n")
        sys.stdout.write(f"logs: {folder / 'logs'}\nPress Ctrl-C to stop all.\n")
        sys.stdout.flush()
        try:
            signal.pause()
        except KeyboardInterrupt:
            _print_line("stopping")


if __name__ == "__main__":
    main()
