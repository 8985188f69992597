"""Addresses of brokers that can go away and come back, and brokers that are the wrong ones."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from dev.servers import tools
from dev.servers.base import HOST, Leash, Process, free_port
from dev.servers.mosquitto import answers
from tests.cluster.balancer import join


@dataclass(slots=True)
class Road:
    """A port that leads to a broker while it is open."""

    broker_port: int
    port: int = field(default_factory=free_port)
    _server: asyncio.Server | None = None
    _travellers: set[asyncio.StreamWriter] = field(default_factory=set)

    async def open(self) -> None:
        """Lead to the broker."""
        if self._server is None:
            self._server = await asyncio.start_server(self._lead, HOST, self.port)

    async def close(self) -> None:
        """Refuse connections, and end those that there are."""
        if self._server is not None:
            self._server.close()
            self._server = None  # as one that has just been accepted sees
        for one in self._travellers:
            one.transport.abort()

    async def _lead(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._travellers.add(writer)
        with contextlib.closing(writer), contextlib.suppress(OSError):
            inner_reader, inner_writer = await asyncio.open_connection(HOST, self.broker_port)
            with contextlib.closing(inner_writer):
                if self._server is not None:
                    await join(reader, writer, inner_reader, inner_writer)
        self._travellers.discard(writer)


@dataclass(frozen=True, slots=True)
class WrongBrokers:
    """The ports, without TLS, of a broker that refuses everybody, and of one that accepts anybody for nothing."""

    refusing: int
    silent: int


@contextmanager
def wrong_brokers(folder: Path) -> Iterator[WrongBrokers]:
    """Run two brokers that are not ours until the block ends."""
    with ExitStack() as stack:
        leash = Leash()
        stack.callback(leash.close)
        ports = [free_port(), free_port()]
        for port, anonymous in zip(ports, ("false", "true"), strict=True):
            configuration = folder / f"{port}.conf"
            configuration.write_text(f"listener {port} {HOST}\nallow_anonymous {anonymous}\n")
            broker = Process(
                f"broker-{port}",
                folder / f"{port}.log",
                lambda port=port: answers(port),  # type: ignore[misc]
                [tools.find_mosquitto().program, "-c", configuration],
                leash=leash,
            )
            stack.callback(broker.stop)
            broker.start()
        yield WrongBrokers(*ports)
