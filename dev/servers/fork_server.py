"""Starts services, and `mdm`, as forks of one process that has already imported their modules.

`python -m dev.servers.fork_server FD` serves requests on a socket, one after another: each is one line of
JSON, as is its answer. It ends when the socket is closed; its children do not.
"""

from __future__ import annotations

import atexit
import gc
import importlib
import json
import os
import resource
import runpy
import socket
import subprocess
import sys
import threading
import time
import traceback
import weakref
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from selectors import EVENT_READ, DefaultSelector
from tempfile import TemporaryFile
from typing import Any, Final

from sqlalchemy.orm import configure_mappers

from dev.servers.base import Child, Process

MODULES: Final = [
    *(f"services.{name}.main" for name in ("registry", "rotator", "firmware")),
    "dev.crash_injection",
    "cli.main",
]
_LIBRARIES: Final = ["anyio._backends._asyncio", "httpcore"]
"""What libraries import only when they are first used."""
_ROOT: Final = Path(__file__).parents[2]
_POLL_S: Final = 0.01
"""After a child has closed its files, and before it has ended."""
_LINE_BYTES: Final = 1 << 20


class ForkServer:
    """The client side, for any thread."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._socket, far = socket.socketpair()
        with far:
            self._process = subprocess.Popen(
                [sys.executable, "-m", __name__, str(far.fileno())],
                cwd=_ROOT,
                pass_fds=[far.fileno()],
                start_new_session=True,
            )

    def close(self) -> None:
        """Stop the server; its children continue."""
        self._socket.close()
        self._process.wait()

    def start(self, *outputs: int, **request: object) -> Forked:
        """Start a child; its output and its errors go to the first and the last of `outputs`."""
        ended, held = os.pipe()
        try:
            pid = self.call(outputs=[held, *outputs], start=request)
        finally:
            os.close(held)
        return Forked(self, pid, ended)

    def call(self, *, outputs: Sequence[int] = (), **request: object) -> Any:  # noqa: ANN401 - JSON
        """Return the answer to a request; `outputs` are files for a child."""
        line = json.dumps(request).encode() + b"\n"
        with self._lock:
            # An empty byte carries the files, before a line of any length.
            socket.send_fds(self._socket, [b"\0"], outputs)
            self._socket.sendall(line)
            answer = b""
            while not answer.endswith(b"\n"):
                piece = self._socket.recv(_LINE_BYTES)
                if not piece:
                    raise OSError("the fork server has ended")
                answer += piece
        return json.loads(answer)


@cache
def fork_server() -> ForkServer:
    """Return the fork server of this process; it is ready when it has imported everything."""
    server = ForkServer()
    atexit.register(server.close)
    return server


class Forked:
    """A child of the fork server, with the interface of subprocess.Popen.

    It holds the other end of the pipe `ended`, so that nobody has to ask again and again whether it runs.
    """

    def __init__(self, server: ForkServer, pid: int, ended: int) -> None:
        self._server = server
        self.pid = pid
        self._ended = ended
        weakref.finalize(self, os.close, ended)
        self._status: int | None = None

    def poll(self) -> int | None:
        if self._status is None:
            self._status = self._server.call(poll=self.pid)
        return self._status

    def wait(self, timeout: float | None = None) -> int:
        with DefaultSelector() as selector:
            selector.register(self._ended, EVENT_READ)
            if not selector.select(timeout):
                raise subprocess.TimeoutExpired("forked", timeout or 0)
        while (status := self.poll()) is None:
            time.sleep(_POLL_S)
        return status

    def send_signal(self, number: int) -> None:
        if self.poll() is None:
            os.kill(self.pid, number)


@dataclass(frozen=True)
class Ran:
    """How a program has ended, and what it has written."""

    status: int
    output: str
    errors: str


def run_forked(module: str, *arguments: str, environment: Mapping[str, str], folder: Path) -> Ran:
    """Run a module of MODULES to its end, without input."""
    server = fork_server()
    with TemporaryFile() as output, TemporaryFile() as errors:
        status = server.start(
            output.fileno(),
            errors.fileno(),
            command=[module, *arguments],
            environment=dict(environment),
            folder=str(folder),
        ).wait()
        output.seek(0)
        errors.seek(0)
        return Ran(status, output.read().decode(), errors.read().decode())


class ForkedProcess(Process):
    """A forked server; its command is a module of MODULES and its arguments."""

    max_files: str | None = None

    def _spawn(self, log: int) -> Child:
        return fork_server().start(
            log,
            command=[str(it) for it in self._command],
            environment=dict(self._environment),
            folder=str(self.log_file.parent),
            max_files=self.max_files,
        )


def serve(channel: socket.socket) -> None:
    """Answer requests until there are no more."""
    for module in [*MODULES, *_LIBRARIES]:
        importlib.import_module(module)
    configure_mappers()
    # The module that is run is imported by running it.
    for module in MODULES:
        del sys.modules[module]
    gc.collect()
    gc.freeze()  # else the first garbage collection of each child copies all pages
    reader = channel.makefile("rb")
    ended: dict[int, int] = {}
    while True:
        first, files, _, _ = socket.recv_fds(channel, 1, 3)
        if not first:
            return
        request = json.loads(reader.readline())
        if "start" in request:
            child = _fork(channel, files[1:], request["start"])
            ended.pop(child, None)  # ids of ended processes are reused
            answer: int | None = child
            for file in files:
                os.close(file)
        else:
            answer = _poll(ended, request["poll"])
        channel.sendall(json.dumps(answer).encode() + b"\n")


def _poll(ended: dict[int, int], pid: int) -> int | None:
    """Return a child's exit status, or None while it runs; for any number of threads."""
    if pid not in ended:
        found, status = os.waitpid(pid, os.WNOHANG)
        if found == 0:
            return None
        ended[pid] = os.waitstatus_to_exitcode(status)
    return ended[pid]


def _fork(channel: socket.socket, outputs: Sequence[int], request: dict[str, Any]) -> int:
    pid = os.fork()
    if pid:
        return pid
    status = 1
    try:
        os.close(channel.fileno())
        _become(outputs, request)
        status = _run(request["command"])
    except BaseException:  # noqa: BLE001 - as the interpreter does on exit
        traceback.print_exc()
    finally:
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(status)


def _become(outputs: Sequence[int], request: dict[str, Any]) -> None:
    os.setsid()
    with open(os.devnull, "rb") as nothing:  # noqa: PTH123 - this opens a descriptor
        os.dup2(nothing.fileno(), 0)
    os.dup2(outputs[0], 1)
    os.dup2(outputs[-1], 2)
    for output in outputs:
        os.close(output)
    os.chdir(request["folder"])
    os.environ.clear()
    os.environ.update(request["environment"])
    if request.get("max_files") is not None:
        count = int(request["max_files"])
        resource.setrlimit(resource.RLIMIT_NOFILE, (count, count))


def _run(command: list[str]) -> int:
    sys.argv = command
    try:
        runpy.run_module(command[0], run_name="__main__", alter_sys=True)
    except SystemExit as end:
        if isinstance(end.code, str):
            sys.stderr.write(end.code + "\n")
            return 1
        return end.code or 0
    return 0


if __name__ == "__main__":
    serve(socket.socket(fileno=int(sys.argv[1])))
