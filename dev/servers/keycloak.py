"""Keycloak as a process that starts in seconds, from a prepared database and class archive.

`python -m dev.servers.keycloak` prepares them.
"""

from __future__ import annotations

import fcntl
import hashlib
import http.client
import json
import secrets
import shutil
import tempfile
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from dev.servers import base, tools

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence

REALM = "iot"
REALM_FILE = Path(__file__).parents[2] / "deploy/keycloak/realm-iot.json"
_TEMPLATES_KEPT = 3
_CLIENTS = "clients.json"
_UNFINISHED = ".new."
_HOLDS_DATABASE = ("h2", "transaction-logs")
# H2 writes commits after half a second by default: a killed Keycloak would lose confirmed clients.
DATABASE = "jdbc:h2:file:{home}/data/h2/keycloakdb;NON_KEYWORDS=VALUE;WRITE_DELAY=0"
_THREADS = "io.quarkus.bootstrap.forkjoin.QuarkusForkJoinWorkerThreadFactory"
_JAVA_OPTIONS = (
    "-Xms64m",
    "-Xmx512m",
    "-XX:+UseSerialGC",
    "-XX:TieredStopAtLevel=1",
    "-XX:+ExitOnOutOfMemoryError",
    f"-Djava.util.concurrent.ForkJoinPool.common.threadFactory={_THREADS}",
    "--add-opens=java.base/java.util=ALL-UNNAMED",
    "--add-opens=java.base/java.util.concurrent=ALL-UNNAMED",
    "--add-opens=java.base/java.security=ALL-UNNAMED",
    "--add-opens=java.base/java.lang=ALL-UNNAMED",
    "--enable-native-access=ALL-UNNAMED",
    "-Duser.language=en",
    "-Duser.country=US",
    "-Djava.util.logging.manager=org.jboss.logmanager.LogManager",
    "-Dpicocli.disable.closures=true",
)


def realm() -> tuple[str, Mapping[str, str]]:
    """Return the realm to import, with new secrets for the services' clients, and the secrets by client id."""
    made = json.loads(REALM_FILE.read_text())
    for client in made["clients"]:
        client["secret"] = secrets.token_urlsafe(24)
    return json.dumps(made), {client["clientId"]: client["secret"] for client in made["clients"]}


def clients(template: Path) -> Mapping[str, str]:
    """Return the secrets of the services' clients in a template, by client id."""
    found: dict[str, str] = json.loads((template / _CLIENTS).read_text())
    return found


def serves_realm(port: int) -> bool:
    """Return whether the realm is available."""
    connection = http.client.HTTPConnection(base.HOST, port, timeout=5)
    try:
        connection.request("GET", f"/realms/{REALM}")
        return connection.getresponse().status == http.HTTPStatus.OK
    except (OSError, http.client.HTTPException):
        return False
    finally:
        connection.close()


class KeycloakProcess(base.Process):
    """A Keycloak with its data below `folder`, copied from the template."""

    start_timeout_s = 180.0

    def __init__(self, folder: Path, port: int, *, leash: base.Leash) -> None:
        self._home = folder / "keycloak"
        template = ensure_template()
        if not self._home.exists():
            new = folder / "keycloak.new"
            shutil.rmtree(new, ignore_errors=True)
            _make_home(new)
            for name in _HOLDS_DATABASE:
                shutil.copytree(template / name, new / "data" / name)
            new.rename(self._home)
        # Perhaps it was made with another release.
        (self._home / "lib").unlink()
        (self._home / "lib").symlink_to(tools.find_keycloak() / "lib")
        archive = f"-XX:SharedArchiveFile={template / 'classes.jsa'}"
        super().__init__(
            "keycloak",
            folder / "logs/keycloak.log",
            lambda: serves_realm(port),
            _command(self._home, port, [archive]),
            leash=leash,
        )


def ensure_template(progress: Callable[[str], None] = print) -> Path:
    """Return the folder of the prepared database and class archive for this realm file and this Java."""
    _, java_version = tools.find_java()
    key = hashlib.sha256(
        "\n".join(
            (tools.KEYCLOAK_VERSION, java_version, DATABASE, *_JAVA_OPTIONS, REALM_FILE.read_text())
        ).encode()
    ).hexdigest()[:16]
    template = tools.keycloak_templates() / key
    template.parent.mkdir(parents=True, exist_ok=True)
    with _locked(template.parent / ".lock"):
        if not template.exists():
            progress("Keycloak: preparing its database and class archive (first time: about a minute)")
            for abandoned in template.parent.glob(f"{_UNFINISHED}*"):
                shutil.rmtree(abandoned)
            _make_template(template)
            _remove_old(template.parent)
    return template


def _make_template(template: Path) -> None:
    leash = base.Leash()
    with tempfile.TemporaryDirectory(dir=template.parent, prefix=_UNFINISHED) as temporary:
        folder = Path(temporary)
        home, port = folder / "home", base.free_port()
        _make_home(home)
        imported, clients = realm()
        (home / "data/import").mkdir(parents=True)
        (home / "data/import" / REALM_FILE.name).write_text(imported)
        archive = folder / "classes.jsa"
        options = [f"-XX:ArchiveClassesAtExit={archive}", "-Xlog:cds=error"]
        server = base.Process(
            "keycloak",
            folder / "keycloak.log",
            lambda: serves_realm(port),
            _command(home, port, options, ["--import-realm"]),
            leash=leash,
        )
        server.start_timeout_s = KeycloakProcess.start_timeout_s
        server.stop_timeout_s = 120  # it writes the archive on exit
        try:
            server.start()
            server.stop()
        finally:
            server.kill()
            leash.close()
        ready = folder / "ready"
        ready.mkdir(mode=0o700)
        (ready / _CLIENTS).write_text(json.dumps(clients))
        for name in _HOLDS_DATABASE:
            (home / "data" / name).rename(ready / name)
        if archive.exists():  # a Java without its own archive writes none; Keycloak then starts more slowly
            archive.rename(ready / archive.name)
        ready.rename(template)


def _remove_old(templates: Path) -> None:
    found = [folder for folder in templates.iterdir() if folder.is_dir() and not folder.name.startswith(".")]
    for folder in sorted(found, key=lambda folder: folder.stat().st_mtime, reverse=True)[_TEMPLATES_KEPT:]:
        shutil.rmtree(folder)


def _make_home(home: Path) -> None:
    """Create a home folder that shares the distribution's programs, so that several can run concurrently."""
    for name in ("conf", "providers", "themes", "data"):
        (home / name).mkdir(parents=True)
    (home / "lib").symlink_to(tools.find_keycloak() / "lib")


def _command(home: Path, port: int, java_options: Sequence[str], options: Sequence[str] = ()) -> list[str | Path]:
    # The command of kc.sh without the shell, so that the process id is Keycloak's.
    java, _ = tools.find_java()
    return [
        java,
        *_JAVA_OPTIONS,
        *java_options,
        f"-Dkc.home.dir={home}",
        f"-Djboss.server.config.dir={home / 'conf'}",
        "-cp",
        tools.find_keycloak() / "lib/quarkus-run.jar",
        "io.quarkus.bootstrap.runner.QuarkusEntryPoint",
        "start",
        "--optimized",
        "--cache=local",
        "--http-enabled=true",
        f"--http-host={base.HOST}",
        f"--http-port={port}",
        "--hostname-strict=false",
        f"--db-url={DATABASE.format(home=home)}",
        *options,
    ]


@contextmanager
def _locked(file: Path) -> Iterator[None]:
    with file.open("a") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield


if __name__ == "__main__":
    ensure_template()
