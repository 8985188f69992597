"""The same servers as containers of the official images, with testcontainers."""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
import subprocess
from pathlib import PurePosixPath
from typing import TYPE_CHECKING

from testcontainers.core import config
from testcontainers.core.container import DockerContainer
from testcontainers.core.exceptions import ContainerStartException

from deploy import broker, certificates
from dev.servers import base, tools
from dev.servers import keycloak as keycloak_process
from dev.servers import mosquitto as mosquitto_process
from dev.servers import postgres as postgres_process

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from pathlib import Path

POSTGRES_IMAGE = "postgres:17.11"
MOSQUITTO_IMAGE = "eclipse-mosquitto:2.0.22"
KEYCLOAK_IMAGE = f"quay.io/keycloak/keycloak:{tools.KEYCLOAK_VERSION}"
IMAGES = (POSTGRES_IMAGE, MOSQUITTO_IMAGE, KEYCLOAK_IMAGE)
_MOSQUITTO_CONFIG = PurePosixPath("/mosquitto/config")
_MOSQUITTO_DATA = PurePosixPath("/mosquitto/data")
_MOSQUITTO_PLUGIN = PurePosixPath("/usr/lib/mosquitto_dynamic_security.so")


def available() -> bool:
    """Return whether a Docker engine answers and has all images."""
    return _has_images(*IMAGES)


class Container(base.Server):
    """A server in a container; its ports on this machine stay the same after a restart."""

    start_timeout_s = 240.0

    def __init__(
        self,
        name: str,
        log_file: Path,
        is_ready: Callable[[], bool],
        container: DockerContainer,
        ports: Mapping[int, int],
    ) -> None:
        super().__init__(name, log_file, is_ready)
        self._container = container
        self._created = False
        for inside, outside in ports.items():
            # with_bind_ports() has no argument for the address and would listen on all.
            container.ports[f"{inside}/tcp"] = (base.HOST, outside)  # type: ignore[assignment]

    @property
    def running(self) -> bool:
        return self._created and self._state()["Running"] is True

    @property
    def pid(self) -> int:
        pid = self._state()["Pid"] if self._created else 0
        if not isinstance(pid, int) or not pid:
            raise base.ServerError(f"{self.name} is not running")
        return pid

    def _state(self) -> Mapping[str, object]:
        wrapped = self._container.get_wrapped_container()
        wrapped.reload()
        state: Mapping[str, object] = wrapped.attrs["State"]
        return state

    def _launch(self) -> None:
        if self.running:
            raise base.ServerError(f"{self.name} is already running")
        if self._created:
            self._container.get_wrapped_container().start()
        else:
            if not _has_images(config.testcontainers_config.ryuk_image):
                # Nothing then removes the containers if this process is killed.
                config.testcontainers_config.ryuk_disabled = True
            self._container.start()
            self._created = True

    def stop(self) -> None:
        if self.running:
            self._container.get_wrapped_container().stop(timeout=int(self.stop_timeout_s))
        self._save_log()

    def kill(self) -> None:
        if self.running:
            self.send_signal(signal.SIGKILL)
            self._container.get_wrapped_container().wait()
        self._save_log()

    def send_signal(self, number: signal.Signals) -> None:
        self._container.get_wrapped_container().kill(signal=number.name)

    def remove(self) -> None:
        """Remove the container and its data."""
        with contextlib.suppress(ContainerStartException):  # was never created
            self._container.get_wrapped_container()
            self._container.stop()

    def log_tail(self, lines: int = 30) -> str:
        self._save_log()
        return super().log_tail(lines)

    def _save_log(self) -> None:
        if self._created:
            self.log_file.parent.mkdir(parents=True, exist_ok=True)
            self.log_file.write_bytes(self._container.get_wrapped_container().logs())


def postgres(folder: Path, port: int, password: str, *, durable: bool) -> Container:
    """Return PostgreSQL with the database `mdm`, not started yet."""
    container = (
        DockerContainer(POSTGRES_IMAGE)
        .with_envs(
            POSTGRES_USER=postgres_process.USER,
            POSTGRES_DB=postgres_process.DATABASE,
            POSTGRES_PASSWORD=password,
        )
        .with_command(["-c", "max_connections=200", "-c", f"fsync={'on' if durable else 'off'}"])
    )
    return Container(
        "postgres",
        folder / "logs/postgres.log",
        lambda: postgres_process.accepts_logins(port),
        container,
        {5432: port},
    )


def mosquitto(
    folder: Path, port: int, devices_port: int, claims_port: int, web_port: int, *, accounts: Mapping[str, str]
) -> Container:
    """Return the broker with these accounts and passwords, not started yet."""
    server = certificates.ensure_server_certificate(folder / "certificates", ["localhost", base.HOST])
    settings = broker.Settings(
        plugin=_MOSQUITTO_PLUGIN,
        certificate_file=_MOSQUITTO_CONFIG / "server.crt",
        key_file=_MOSQUITTO_CONFIG / "server.key",
        acl_file=_MOSQUITTO_CONFIG / "acl",
        data_folder=_MOSQUITTO_DATA,
    )
    written = folder / "mosquitto"
    configuration = broker.write_files(written, written, settings, accounts)
    container = DockerContainer(MOSQUITTO_IMAGE)
    # Copied, not mounted, as the image changes the owner of the files.
    for file, target in (
        (configuration, _MOSQUITTO_CONFIG / "mosquitto.conf"),
        (written / settings.acl_file.name, settings.acl_file),
        (written / settings.accounts_file.name, settings.accounts_file),
        (server.certificate, settings.certificate_file),
        (server.key, settings.key_file),
    ):
        container.with_copy_into_container(file, str(target), 0o600)
    return Container(
        "broker",
        folder / "logs/broker.log",
        lambda: mosquitto_process.answers(port),
        container,
        {
            settings.services_port: port,
            settings.devices_port: devices_port,
            settings.claims_port: claims_port,
            settings.web_port: web_port,
        },
    )


def keycloak(folder: Path, port: int, realm: str) -> Container:
    """Return Keycloak with this realm, not started yet; the first start takes about a minute."""
    home = "/opt/keycloak"
    imported = folder / keycloak_process.REALM_FILE.name
    imported.write_text(realm)
    container = (
        DockerContainer(KEYCLOAK_IMAGE)
        .with_envs(
            KC_DB_URL=keycloak_process.DATABASE.format(home=home),
            JAVA_OPTS_KC_HEAP="-Xms64m -Xmx512m",
        )
        .with_copy_into_container(imported, f"{home}/data/import/{imported.name}")
        .with_command(["start-dev", "--import-realm"])
    )
    return Container(
        "keycloak",
        folder / "logs/keycloak.log",
        lambda: keycloak_process.serves_realm(port),
        container,
        {8080: port},
    )


def _has_images(*images: str) -> bool:
    """Return whether the engine of testcontainers answers and has these images."""
    host = os.environ.get("DOCKER_HOST", "unix:///var/run/docker.sock")
    program = shutil.which("docker")
    if program is None:
        return False
    # By the command, as the Python client leaves a socket open if no engine answers.
    command = [program, "--host", host, "image", "inspect", *images]
    done = subprocess.run(command, capture_output=True, check=False, timeout=30)
    return done.returncode == 0
