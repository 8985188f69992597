"""`make serve`: the whole system on this machine, with its data in a folder and on ports that stay the same.

`python -m dev.serve --data FOLDER` starts it, and Ctrl-C ends it; the next start continues with the same data.
"""

from __future__ import annotations

import argparse
import fcntl
import os
import signal
import socket
import stat
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Final

from dev import stack, system
from dev.installation import LocalInstallation
from dev.servers.base import HOST

FIRST_PORT: Final = 18880
LISTENERS: Final = ("database", "keycloak", "services", "devices", "claims", "pages", "firmware")
SETTINGS: Final = {"MDM_RECONCILE_S": "300", "MDM_ROTATION_SCHEDULE": "0 8 * * 6#1"}
"""As by default, and not as for tests."""


class UnusableError(Exception):
    """The folder or a port cannot be used; the message names the option."""


def main() -> int:
    """Run until Ctrl-C or SIGTERM."""
    usual = Path("/var/lib/mdm" if os.geteuid() == 0 else "~/mdm")
    parser = argparse.ArgumentParser(description="Run the system on this machine, with its data in a folder.")
    parser.add_argument("--data", type=Path, default=usual, help=f"folder of its data; the default is {usual}")
    parser.add_argument(
        "--first-port",
        type=int,
        default=FIRST_PORT,
        help=f"first of {len(LISTENERS)} ports; the default is {FIRST_PORT}",
    )
    given = parser.parse_args()
    folder = given.data.expanduser().absolute()
    ports = {name: given.first_port + number for number, name in enumerate(LISTENERS)}
    try:
        with _held(folder):
            _check_ports(ports)
            _serve(folder, ports)
    except UnusableError as error:
        sys.stderr.write(f"error: {error}\n")
        return 1
    return 0


def _serve(folder: Path, ports: Mapping[str, int]) -> None:
    installation = LocalInstallation(folder / "secrets.json", ports)
    with (
        stack.running(folder, installation=installation) as servers,
        system.running(servers, **SETTINGS) as running,
    ):
        profile = folder / "profile.toml"
        running.profile.save(profile)
        sys.stdout.write(f"""
Ready. In another terminal:

  export MDM_PROFILE={profile}
  scripts/uv run mdm device list

The web page, for the account admin with the password in profile.toml (the browser will warn about the certificate,
which is signed by {servers.endpoints.ca_file}):

  https://{HOST}:{ports["firmware"]}/

Logs are in {folder / "logs"}. Ctrl-C stops everything; the same command continues with the same data.
""")
        sys.stdout.flush()
        with suppress(KeyboardInterrupt):
            signal.pause()
        sys.stderr.write("stopping\n")


@contextmanager
def _held(folder: Path) -> Iterator[None]:
    """Keep others out of the folder until the block ends. Raise UnusableError."""
    folder.mkdir(parents=True, exist_ok=True)
    folder.chmod(0o755)
    closed = [it for it in folder.parents if not it.stat().st_mode & stat.S_IXOTH]
    if os.geteuid() == 0 and closed:
        raise UnusableError(
            f"--data: PostgreSQL does not run as root, and its user may not enter {closed[-1]}; use another"
        )
    with (folder / "lock").open("a") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            raise UnusableError(f"--data: {folder} is in use by another system") from None
        yield


def _check_ports(ports: Mapping[str, int]) -> None:
    """Raise UnusableError if another program listens on one."""
    for name, port in ports.items():
        with socket.socket() as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            try:
                probe.bind((HOST, port))
            except (OSError, OverflowError) as error:
                raise UnusableError(f"--first-port: port {port}, for {name}, cannot be used: {error}") from None


if __name__ == "__main__":
    sys.exit(main())
