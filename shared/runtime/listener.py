"""Accepts TCP connections within two limits: in total, and from one address.

asyncio's own servers accept connections until no file descriptors are left, which stops everything else in the
process too; then they log thousands of lines a second (python/cpython#151615).
"""

from __future__ import annotations

import asyncio
import errno
import ipaddress
import math
import socket
import struct
from collections import Counter
from collections.abc import Awaitable, Callable
from typing import Final

import structlog

from shared.errors import InvalidInputError

log = structlog.get_logger()

REPORT_S: Final = 10.0
_RETRY_S: Final = 1.0
_NAMED: Final = 5
_PREFIX_V6: Final = 64
"""Bits of an IPv6 address that a network assigns: the owner of one address has all that share these."""
_EXHAUSTED: Final = {errno.EMFILE, errno.ENFILE, errno.ENOBUFS, errno.ENOMEM}
_RESET_AT_CLOSE: Final = struct.pack("ii", 1, 0)


class Listener:
    """Passes each connection to `serve`, which owns and closes it; it counts as open until `serve` returns.

    At most `max_per_address` connections of an IPv4 address or an IPv6 /64 are open. One beyond a limit is reset
    at once.
    """

    def __init__(
        self,
        listening: socket.socket,
        serve: Callable[[socket.socket], Awaitable[None]],
        *,
        max_connections: int,
        max_per_address: int,
    ) -> None:
        listening.setblocking(False)  # noqa: FBT003
        self._listening = listening
        self._serve = serve
        self._max_connections = max_connections
        self._max_per_address = max_per_address
        self._open: Counter[str] = Counter()
        self._refused: Counter[str] = Counter()
        self._report_at = -math.inf

    async def run(self) -> None:
        """Accept until cancelled, which closes the listening socket and cancels each `serve`."""
        with self._listening:
            async with asyncio.TaskGroup() as tasks:
                while True:
                    connection, address = await self._accept()
                    source = source_of(address)
                    if self._admits(source):
                        self._open[source] += 1
                        tasks.create_task(self._run(connection, source), name="connection")
                    else:
                        self._refuse(connection, source)
                    # Accepting does not block while connections are pending: yield to the rest of the process.
                    await asyncio.sleep(0)

    async def _accept(self) -> tuple[socket.socket, str]:
        loop = asyncio.get_running_loop()
        while True:
            try:
                connection, peer = await loop.sock_accept(self._listening)
            except ConnectionAbortedError:
                continue
            except OSError as error:
                if error.errno not in _EXHAUSTED:
                    raise
                log.warning("connections.deferred", error=str(error))
                await asyncio.sleep(_RETRY_S)
            else:
                return connection, peer[0]

    def _admits(self, source: str) -> bool:
        return self._open.total() < self._max_connections and self._open[source] < self._max_per_address

    async def _run(self, connection: socket.socket, source: str) -> None:
        try:
            await self._serve(connection)
        except Exception:
            log.exception("connection.crashed")
        finally:
            self._open[source] -= 1
            if not self._open[source]:
                del self._open[source]

    def _refuse(self, connection: socket.socket, source: str) -> None:
        with connection:
            connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _RESET_AT_CLOSE)
        self._refused[source] += 1
        now = asyncio.get_running_loop().time()
        if now >= self._report_at:
            worst = dict(self._refused.most_common(_NAMED))
            total = self._open.total()
            log.warning("connections.refused", count=self._refused.total(), worst=worst, open=total)
            self._refused.clear()
            self._report_at = now + REPORT_S


def source_of(address: str) -> str:
    """Return the source for the limit: an IPv4 address, or the /64 of an IPv6 address."""
    ip = ipaddress.ip_address(address.partition("%")[0])
    if isinstance(ip, ipaddress.IPv4Address):
        return str(ip)
    if ip.ipv4_mapped is not None:
        return str(ip.ipv4_mapped)
    return str(ipaddress.ip_network((ip, _PREFIX_V6), strict=False))


def listening_on(host: str, port: int, *, settings: str) -> socket.socket:
    """Return a socket that listens on a host's first address, or raise InvalidInputError naming the `settings`."""
    try:
        family = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)[0][0]
        return socket.create_server((host, port), family=family, backlog=1024)
    except OSError as error:
        raise InvalidInputError(f"{settings}: cannot listen on {host}:{port}: {error}") from error
