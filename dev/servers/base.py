"""Base of all servers: start, stop, kill, and restart on the same port."""

from __future__ import annotations

import asyncio
import contextlib
import os
import pwd
import random
import signal
import socket
import subprocess
import sys
import threading
import time
from abc import ABC, abstractmethod
from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Mapping, Sequence
    from pathlib import Path

HOST = "127.0.0.1"
_POLL_S = 0.05
_taken_ports: set[int] = set()
_ports_lock = threading.Lock()


class ServerError(Exception):
    """A server did not start or stopped by itself."""


class Server(ABC):
    """A server of the stack; all methods block and may be called from any thread."""

    start_timeout_s = 60.0
    stop_timeout_s = 20.0
    stop_signal = signal.SIGTERM

    def __init__(self, name: str, log_file: Path, is_ready: Callable[[], bool]) -> None:
        self.name = name
        self.log_file = log_file
        self._is_ready = is_ready
        self._log_begin = 0

    @property
    @abstractmethod
    def pid(self) -> int:
        """The id of the main process on this machine; ServerError if it is not running."""

    @property
    @abstractmethod
    def running(self) -> bool:
        """Whether the main process is running."""

    @abstractmethod
    def _launch(self) -> None: ...

    @abstractmethod
    def stop(self) -> None:
        """Stop the server cleanly, or by force after a timeout; no effect if it is not running."""

    @abstractmethod
    def kill(self) -> None:
        """Kill the server (SIGKILL), like a crash; no effect if it is not running."""

    @abstractmethod
    def send_signal(self, number: signal.Signals) -> None:
        """Send a signal to the main process."""

    def start(self) -> None:
        """Start the server and return when it is ready; else raise ServerError with the end of the log."""
        self._log_begin = self.log_size
        self._launch()
        deadline = time.monotonic() + self.start_timeout_s
        while not self._is_ready():
            if not self.running:
                raise ServerError(f"{self.name} ended while starting\n{self.log_tail()}")
            if time.monotonic() > deadline:
                self.kill()
                raise ServerError(f"{self.name} not ready in {self.start_timeout_s:g} s\n{self.log_tail()}")
            time.sleep(_POLL_S)

    def restart(self) -> None:
        """Stop and start the server, on the same port and with the same data."""
        self.stop()
        self.start()

    @property
    def log_size(self) -> int:
        """The size of the log, including earlier runs; 0 if there is no log yet."""
        return self.log_file.stat().st_size if self.log_file.exists() else 0

    def log_since(self, beyond: int | None = None) -> bytes:
        """Return the log after this number of bytes, or since the last start."""
        if not self.log_file.exists():
            return b""
        with self.log_file.open("rb") as log:
            log.seek(self._log_begin if beyond is None else beyond)
            return log.read()

    def log_tail(self, lines: int = 30) -> str:
        """Return the end of the log."""
        return "\n".join(self.log_since(0).decode(errors="replace").splitlines()[-lines:])


class Child(Protocol):
    """A started process, with the interface of subprocess.Popen."""

    @property
    def pid(self) -> int: ...
    def poll(self) -> int | None: ...
    def wait(self, timeout: float | None = None) -> int: ...
    def send_signal(self, number: int, /) -> None: ...


class Process(Server):
    """A server that runs as a process on this machine, in its own session."""

    def __init__(
        self,
        name: str,
        log_file: Path,
        is_ready: Callable[[], bool],
        command: Sequence[str | Path],
        *,
        leash: Leash,
        environment: Mapping[str, str] | None = None,
        user: str | None = None,
    ) -> None:
        super().__init__(name, log_file, is_ready)
        self._command = command
        self._leash = leash
        self._environment = {**os.environ, **(environment or {})}
        self._user = user
        self._process: Child | None = None

    @property
    def running(self) -> bool:
        return self._process is not None and self._process.poll() is None

    @property
    def pid(self) -> int:
        if self._process is None or self._process.poll() is not None:
            raise ServerError(f"{self.name} is not running")
        return self._process.pid

    def _launch(self) -> None:
        if self.running:
            raise ServerError(f"{self.name} is already running")
        self.log_file.parent.mkdir(parents=True, exist_ok=True)
        with self.log_file.open("ab") as log:
            self._process = self._spawn(log.fileno())
        self._leash.hold(self._process.pid)

    def _spawn(self, log: int) -> Child:
        return subprocess.Popen(
            self._command,
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=subprocess.STDOUT,
            cwd=self.log_file.parent,
            env=self._environment,
            start_new_session=True,
            user=self._user,
            group=group_of(self._user),
            extra_groups=[] if self._user else None,
        )

    def wait(self) -> None:
        """Wait until the process has ended by itself or was killed by others."""
        if self._process is not None:
            self._process.wait()

    def stop(self) -> None:
        if self._process is not None:
            if self._process.poll() is None:
                self._process.send_signal(self.stop_signal)
                with contextlib.suppress(subprocess.TimeoutExpired):
                    self._process.wait(self.stop_timeout_s)
            self.kill()

    def kill(self) -> None:
        process = self._process
        if process is None:
            return
        if process.poll() is None:  # not reaped yet, so the id is not reused
            with contextlib.suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)
            process.wait()
        self._leash.release(process.pid)
        self._process = None

    def send_signal(self, number: signal.Signals) -> None:
        os.kill(self.pid, number)


class Leash:
    """Kills registered processes if this process ends without stopping them, for example by SIGKILL.

    It is a process that waits for the end of a pipe. The parent-death signal of Linux does not suffice: it is sent
    when the THREAD that started the child ends.
    """

    _PROGRAM = """
import os, signal, sys
held = set()
for line in sys.stdin:
    (held.add if line[0] == "+" else held.discard)(int(line[1:]))
for pid in held:
    try:
        os.killpg(pid, signal.SIGKILL)
    except OSError:
        pass
"""

    def __init__(self) -> None:
        self._process = subprocess.Popen(
            [sys.executable, "-I", "-S", "-c", self._PROGRAM],
            stdin=subprocess.PIPE,
            text=True,
            start_new_session=True,
        )
        self._lock = threading.Lock()

    def hold(self, pid: int) -> None:
        """Kill the process group `pid` if this process ends."""
        self._write(f"+{pid}\n")

    def release(self, pid: int) -> None:
        """Unregister `pid`."""
        self._write(f"-{pid}\n")

    def close(self) -> None:
        """Kill the processes that are still registered, and exit."""
        if self._process.stdin is not None:
            self._process.stdin.close()
        self._process.wait()

    def _write(self, line: str) -> None:
        if self._process.stdin is not None:
            with self._lock:
                self._process.stdin.write(line)
                self._process.stdin.flush()


def free_port() -> int:
    """Return a free port outside of the range of outgoing connections.

    A port in that range could be used while its server is down: a client that retries may even connect to itself.
    """
    # Concurrent test runs must not take ports of each other's servers while those are down.
    number = int(os.environ.get("PYTEST_XDIST_WORKER", "gw0").removeprefix("gw"))
    count = int(os.environ.get("PYTEST_XDIST_WORKER_COUNT", "1"))
    with _ports_lock:
        for port in random.sample(range(15000 + number, 30000, count), 1000):
            if port in _taken_ports:
                continue
            with socket.socket() as probe:
                try:
                    probe.bind((HOST, port))
                except OSError:
                    continue
            _taken_ports.add(port)
            return port
    raise ServerError("no free port between 15000 and 30000")


def listens(port: int) -> bool:
    """Return whether a port accepts connections."""
    with contextlib.suppress(OSError), socket.create_connection((HOST, port), timeout=1):
        return True
    return False


@contextlib.asynccontextmanager
async def started(process: Process) -> AsyncIterator[Process]:
    """Run a process until the block ends."""
    await asyncio.to_thread(process.start)
    try:
        yield process
    finally:
        await asyncio.to_thread(process.stop)


def group_of(user: str | None) -> int | None:
    """Return the id of the user's group; None for None."""
    return pwd.getpwnam(user).pw_gid if user else None
