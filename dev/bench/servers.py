"""Processes that benchmarks start besides the services, mostly baselines."""

from __future__ import annotations

import asyncio
import signal
import sys
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Final

from deploy.broker import render_acl
from dev.bench import echo, plain_http
from dev.bench.population import DOCUMENT
from dev.servers.base import HOST, Process, free_port, listens, started
from dev.servers.nginx import before_images, nginx
from dev.system import System
from shared.protocol import messages, topics

ANSWER: Final = topics.CONFIG.encode(messages.Config(version=1, document=DOCUMENT, secret_generation=1))
"""Of the registry's length, for those who answer without a database, after the fields of the request."""
FILES: Final = """
server {{
    listen {host}:{port} ssl;
    ssl_certificate {certificates}/server.crt;
    ssl_certificate_key {certificates}/server.key;
    root {files};
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
    certificates = system.stack.endpoints.ca_file.parent
    port = free_port()
    server = FILES.format(host=HOST, port=port, certificates=certificates, files=files)
    async with started(nginx(system.stack.folder / "nginx", server, port=port, leash=system.leash)) as process:
        yield port, process


@asynccontextmanager
async def accelerated(system: System) -> AsyncIterator[tuple[int, Process]]:
    """Run nginx before the firmware service, as owners configure it, and yield its port and the process."""
    port, certificates = free_port(), system.stack.endpoints.ca_file.parent
    stored = {"/var/lib/mdm/": f"{system.stack.folder}/assets/"}
    service_port = system.http_ports["firmware"]
    server = before_images("images.conf", stored, certificates=certificates, port=port, service_port=service_port)
    process = nginx(system.stack.folder / "nginx", server, port=port, leash=system.leash)
    async with (
        system.altered("firmware", fate=None, max_files=None, MDM_HTTP_ACCEL="/stored"),
        started(process),
    ):
        yield port, process


@asynccontextmanager
async def _running(
    system: System,
    name: str,
    command: Sequence[str | Path],
    is_ready: Callable[[], bool],
    environment: Mapping[str, str],
) -> AsyncIterator[Process]:
    log_file = system.stack.folder / "logs" / f"{name}.log"
    process = Process(name, log_file, is_ready, command, leash=system.leash, environment=environment)
    async with started(process):
        yield process


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
    async with module(
        system,
        "echo",
        endpoints.mqtt_host,
        str(endpoints.mqtt_port),
        account,
        is_ready=lambda: echo.READY.encode() in log_file.read_bytes()[written:],
        **{
            echo.PASSWORD: endpoints.accounts[account],
            echo.ANSWER: ANSWER.decode(),
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
    await asyncio.to_thread(lambda: system.start("registry", name=name))
    try:
        await system.compared(name)
        yield
    finally:
        await asyncio.to_thread(system.stop, name)
