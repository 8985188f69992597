"""Processes that benchmarks start besides the services, mostly baselines."""

from __future__ import annotations

import asyncio
import signal
import socket
import sys
import time
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from contextlib import asynccontextmanager, suppress
from pathlib import Path
from typing import Final

from deploy.broker import render_acl
from dev.bench import echo, plain_http
from dev.bench.population import DOCUMENT
from dev.servers.base import HOST, Process, ServerError, free_port
from dev.servers.tools import find_nginx
from dev.system import System
from shared.protocol import messages, topics

NGINX: Final = """
daemon off;
master_process off;
pid {folder}/nginx.pid;
events {{}}
http {{
    access_log off;
    sendfile on;
    client_body_temp_path {folder}/nginx-bodies;
    proxy_temp_path {folder}/nginx-proxied;
    fastcgi_temp_path {folder}/nginx-fastcgi;
    uwsgi_temp_path {folder}/nginx-uwsgi;
    scgi_temp_path {folder}/nginx-scgi;
    server {{
        listen {host}:{port} ssl;
        ssl_certificate {certificates}/server.crt;
        ssl_certificate_key {certificates}/server.key;
        root {files};
    }}
}}
"""


@asynccontextmanager
async def module(
    system: System, name: str, *arguments: str | Path, is_ready: Callable[[], bool], **environment: str
) -> AsyncIterator[Process]:
    """Run `python -m dev.bench.NAME` until the block ends."""
    command = [sys.executable, "-m", f"dev.bench.{name}", *arguments]
    root = str(Path(__file__).parents[2])
    async with _running(system, name, command, is_ready, {"PYTHONPATH": root, **environment}) as server:
        yield server


@asynccontextmanager
async def nginx_serving(system: System, files: Path) -> AsyncIterator[tuple[int, Process]]:
    """Serve a folder over TLS by one process of nginx, and yield its port and the process."""
    folder, port = system.stack.folder, free_port()
    configuration = folder / "nginx.conf"
    certificates = system.stack.endpoints.ca_file.parent
    configuration.write_text(
        NGINX.format(folder=folder, host=HOST, port=port, certificates=certificates, files=files)
    )
    command: list[str | Path] = [find_nginx(), "-e", folder / "logs/nginx.log", "-c", configuration]
    async with _running(system, "nginx", command, lambda: listens(port), {}) as server:
        yield port, server


@asynccontextmanager
async def _running(
    system: System,
    name: str,
    command: Sequence[str | Path],
    is_ready: Callable[[], bool],
    environment: Mapping[str, str],
) -> AsyncIterator[Process]:
    log_file = system.stack.folder / "logs" / f"{name}.log"
    server = Process(name, log_file, is_ready, command, leash=system.leash, environment=environment)
    await asyncio.to_thread(server.start)
    try:
        yield server
    finally:
        await asyncio.to_thread(server.stop)


def listens(port: int) -> bool:
    """Return whether a port accepts connections."""
    with suppress(OSError), socket.create_connection((HOST, port), timeout=1):
        return True
    return False


@asynccontextmanager
async def echoing(system: System) -> AsyncIterator[Process]:
    """Run a responder without a database, with answers of the registry's length."""
    endpoints, account = system.stack.endpoints, "svc-registry"
    # Devices may only publish to topics of the protocol, and the benchmark has further ones.
    (acl,) = system.stack.folder.rglob("acl")
    acl.write_text(f"{render_acl()}pattern write {topics.PREFIX}/d/%u/up/bench/+\n")
    system.stack.broker.send_signal(signal.SIGHUP)
    log_file = system.stack.folder / "logs/echo.log"
    written = log_file.stat().st_size if log_file.exists() else 0
    answer = messages.Config(version=1, document=DOCUMENT, secret_generation=1)
    async with module(
        system,
        "echo",
        endpoints.mqtt_host,
        str(endpoints.mqtt_port),
        account,
        is_ready=lambda: echo.READY.encode() in log_file.read_bytes()[written:],
        **{
            echo.PASSWORD: endpoints.accounts[account],
            echo.ANSWER: topics.CONFIG.encode(answer).decode(),
        },
    ) as server:
        yield server


@asynccontextmanager
async def plain_http_serving(system: System) -> AsyncIterator[int]:
    """Run the plain HTTP service, and yield its port."""
    port, url = free_port(), system.stack.endpoints.database_url
    async with module(
        system,
        "plain_http",
        str(port),
        is_ready=lambda: listens(port),
        **{plain_http.DATABASE_URL: url},
    ):
        yield port


@asynccontextmanager
async def second_registry(system: System) -> AsyncIterator[None]:
    """Run one more registry until the block ends; wait for the comparison that it runs at startup."""
    name = "registry-2"
    log_file = system.stack.folder / "logs" / f"{name}.log"
    written = log_file.stat().st_size if log_file.exists() else 0

    def start() -> None:
        system.start("registry", name=name)
        deadline = time.monotonic() + 120
        while b"registry.reconciled" not in log_file.read_bytes()[written:]:
            if time.monotonic() > deadline:
                raise ServerError(f"{name} has not completed its comparison")
            time.sleep(0.1)

    await asyncio.to_thread(start)
    try:
        yield
    finally:
        await asyncio.to_thread(system.stop, name)
