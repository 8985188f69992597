"""PostgreSQL as a process."""

from __future__ import annotations

import os
import pwd
import shutil
import signal
import socket
import struct
import subprocess
import time
from typing import TYPE_CHECKING

from dev.servers import base, tools

if TYPE_CHECKING:
    from pathlib import Path

USER = DATABASE = "mdm"
_AUTHENTICATION = b"R"


def accepts_logins(port: int) -> bool:
    """Return whether the server requests a password, which it only does after recovery."""
    parameters = f"user\0{USER}\0database\0{DATABASE}\0\0".encode()
    startup = struct.pack("!II", 8 + len(parameters), 196608) + parameters  # protocol 3.0
    try:
        with socket.create_connection((base.HOST, port), timeout=2) as connection:
            connection.sendall(startup)
            return connection.recv(1) == _AUTHENTICATION
    except OSError:
        return False


def url(port: int, password: str, *, user: str = USER) -> str:
    """Return the database's URL for SQLAlchemy with asyncpg, by default for the superuser."""
    return f"postgresql+asyncpg://{user}:{password}@{base.HOST}:{port}/{DATABASE}"


class Postgres(base.Process):
    """A cluster below `folder`, with the database `mdm`.

    `durable=False` is faster; data survives a kill all the same, but maybe not a crash of the machine.
    """

    stop_signal = signal.SIGINT  # SIGTERM waits until the last client has disconnected

    def __init__(self, folder: Path, port: int, password: str, *, leash: base.Leash, durable: bool = True) -> None:
        self._programs = tools.find_postgres()
        self._data = folder / "postgres"
        self._password = password
        user = _unprivileged_user() if os.geteuid() == 0 else None
        settings = {
            "listen_addresses": base.HOST,
            "port": str(port),
            "unix_socket_directories": "",
            "max_connections": "200",
            "fsync": "on" if durable else "off",
        }
        super().__init__(
            "postgres",
            folder / "logs/postgres.log",
            lambda: accepts_logins(port),
            [
                self._programs / "postgres",
                "-D",
                self._data,
                *(part for name, value in settings.items() for part in ("-c", f"{name}={value}")),
            ],
            leash=leash,
            environment={"LC_ALL": "C.UTF-8"},
            user=user,
        )

    def start(self) -> None:
        """Start the server; create its cluster first if there is none."""
        if not self._data.exists():
            self._make_cluster()
        deadline = time.monotonic() + self.start_timeout_s
        while True:
            try:
                return super().start()
            except base.ServerError:
                # After a kill, the old server's children hold its shared memory for a moment.
                if self.running or time.monotonic() > deadline or b"still in use" not in self.log_since():
                    raise
                time.sleep(0.1)

    def _make_cluster(self) -> None:
        # Created under another name and then renamed, so that an interrupted run leaves no incomplete cluster.
        new = self._data.with_name("postgres.new")
        shutil.rmtree(new, ignore_errors=True)
        new.mkdir(mode=0o700)
        password_file = self._data.with_name("postgres.password")
        password_file.touch(mode=0o600)
        password_file.write_text(self._password)
        if self._user:
            for path in (new, password_file):
                shutil.chown(path, self._user)
        options = [
            "--auth=md5",  # scram-sha-256 costs both sides thousands of hashes for each connection
            "--encoding=UTF8",
            "--locale=C.UTF-8",
            f"--username={USER}",
            "--no-sync",
        ]
        try:
            self._run([self._programs / "initdb", "-D", new, *options, f"--pwfile={password_file}"])
        finally:
            password_file.unlink()
        # In single-user mode, which needs no port, password or second start.
        self._run(
            [self._programs / "postgres", "--single", "-D", new, "postgres"], f"CREATE DATABASE {DATABASE}\n"
        )
        new.rename(self._data)

    def _run(self, command: list[str | Path], script: str = "") -> None:
        self.log_file.parent.mkdir(parents=True, exist_ok=True)
        done = subprocess.run(
            command,
            input=script,
            capture_output=True,
            text=True,
            check=False,
            cwd="/",
            env=self._environment,
            user=self._user,
            group=base.group_of(self._user),
            extra_groups=[] if self._user else None,
        )
        self.log_file.write_text(done.stdout + done.stderr)
        if done.returncode:
            raise base.ServerError(f"{command[0]} failed\n{done.stdout}{done.stderr}")


def _unprivileged_user() -> str:
    """Return the user for a server that refuses to run as root."""
    for name in ("postgres", "nobody"):
        try:
            pwd.getpwnam(name)
        except KeyError:
            continue
        return name
    raise base.ServerError("PostgreSQL does not run as root, and there is no user postgres or nobody")
