"""Connections as an attacker opens them: many, from addresses of the loopback network, and not used."""

from __future__ import annotations

import asyncio
import contextlib
import resource
import ssl
from collections.abc import AsyncIterator, Sequence

from dev.servers.base import HOST

PATIENCE_S = 120.0
ELSEWHERE = "127.0.0.2"
"""Another source address than the one that connections have by themselves."""


@contextlib.asynccontextmanager
async def held(
    port: int, sources: Sequence[str], *, tls: ssl.SSLContext | None = None
) -> AsyncIterator[list[asyncio.StreamWriter]]:
    """Open a connection from each source and say nothing until the block ends; leave out refused ones."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    few = asyncio.Semaphore(50)

    async def opened(source: str) -> asyncio.StreamWriter | None:
        async with few:
            try:
                host = HOST if tls else None
                place = {"local_addr": (source, 0), "ssl": tls, "server_hostname": host}
                return (await asyncio.open_connection(HOST, port, **place))[1]  # type: ignore[arg-type]
            except OSError:
                return None

    async with asyncio.timeout(PATIENCE_S):
        writers = [one for one in await asyncio.gather(*map(opened, sources)) if one is not None]
    try:
        yield writers
    finally:
        for one in writers:
            one.transport.abort()
        for one in writers:
            with contextlib.suppress(OSError):
                await one.wait_closed()
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


async def ended(reader: asyncio.StreamReader) -> None:
    """Wait until the other side has closed or reset a connection."""
    with contextlib.suppress(ConnectionError):
        async with asyncio.timeout(PATIENCE_S):
            while await reader.read(65536):
                pass
