"""Addresses of brokers that can go away and come back, and brokers that are the wrong ones."""

from __future__ import annotations

import asyncio
import contextlib
import socket
import ssl
import weakref
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import ExitStack, asynccontextmanager, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

from dev.servers import tools
from dev.servers.base import HOST, Leash, Process, free_port
from dev.servers.mosquitto import answers
from dev.stack import Endpoints
from dev.waiting import PATIENCE_S, until
from tests import mqtt_packets
from tests.cluster.balancer import join
from tests.mqtt_packets import CONNACK, PUBACK, PUBLISH, SUBACK, Publication

Judge = Callable[[str, bytes], Awaitable[int]]
"""Returns how often a message arrives, by its topic and payload: 0 if it is lost; it may take its time."""
CUT: Final = -1
"""What a judge returns if the message arrives, and the connection breaks before its sender knows that."""
_OWN_IDENTIFIERS: Final = 60_000


def _reserved() -> socket.socket:
    """Return a socket that keeps a port for us, on which nobody listens."""
    reserved = socket.socket()
    reserved.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
    reserved.bind((HOST, free_port()))
    return reserved


@dataclass(slots=True, weakref_slot=True, eq=False)
class Road:
    """A port that leads to a broker while it is open, and is nobody else's while it is closed."""

    broker_port: int
    port: int = field(init=False)
    tls: ssl.SSLContext | None = None
    """With the broker's certificate."""
    _server: asyncio.Server | None = None
    _travellers: set[asyncio.StreamWriter] = field(default_factory=set)

    def __post_init__(self) -> None:
        reserved = _reserved()
        self.port = reserved.getsockname()[1]
        weakref.finalize(self, reserved.close)

    async def open(self) -> None:
        """Lead to the broker."""
        if self._server is None:
            self._server = await asyncio.start_server(self._lead, HOST, self.port, ssl=self.tls, reuse_port=True)

    async def close(self) -> None:
        """Refuse connections, and end those that there are."""
        if self._server is not None:
            server, self._server = self._server, None  # as one that has just been accepted sees
            for listening in server.sockets:
                asyncio.get_running_loop().remove_reader(listening.fileno())
            # Python 3.11 forgets a connection that was accepted just before, and leaves it open.
            await asyncio.sleep(0)
            server.close()
        for one in self._travellers:
            one.transport.abort()

    async def _lead(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._travellers.add(writer)
        with contextlib.closing(writer), contextlib.suppress(OSError, asyncio.IncompleteReadError):
            inner_reader, inner_writer = await self._broker()
            with contextlib.closing(inner_writer):
                if self._server is not None:
                    await self._travel(reader, writer, inner_reader, inner_writer)
        self._travellers.discard(writer)

    async def _broker(self) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        return await asyncio.open_connection(HOST, self.broker_port)

    async def _travel(
        self,
        reader: asyncio.StreamReader,
        writer: asyncio.StreamWriter,
        inner_reader: asyncio.StreamReader,
        inner_writer: asyncio.StreamWriter,
    ) -> None:
        await join(reader, writer, inner_reader, inner_writer)


@dataclass(slots=True, eq=False)
class WatchedRoad(Road):
    """A road that reads MQTT 3.1.1, so that single messages are lost, doubled or late, whatever device it is.

    The sender of a lost message is told that it has arrived: it was lost behind that.
    """

    authority: ssl.SSLContext | None = None
    judge: Judge | None = None
    """None: all messages arrive."""
    _passages: list[_Passage] = field(default_factory=list)
    _subscribed: asyncio.Event = field(default_factory=asyncio.Event)

    async def subscribed(self) -> None:
        """Wait until a device has subscribed."""
        async with asyncio.timeout(PATIENCE_S):
            await self._subscribed.wait()

    async def send(self, publication: Publication) -> None:
        """Send a message in the name of the broker, or of the device, as its topic has it."""
        ready = await until(self._ready)
        await ready[-1].send(publication)

    async def _ready(self) -> list[_Passage]:
        return [it for it in self._passages if it.is_ready]

    async def _broker(self) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        return await asyncio.open_connection(HOST, self.broker_port, ssl=self.authority)

    async def _travel(
        self,
        reader: asyncio.StreamReader,
        writer: asyncio.StreamWriter,
        inner_reader: asyncio.StreamReader,
        inner_writer: asyncio.StreamWriter,
    ) -> None:
        passage = _Passage(self, writer, inner_writer)
        self._passages.append(passage)
        ways = [
            asyncio.ensure_future(passage.carry(reader, up=True)),
            asyncio.ensure_future(passage.carry(inner_reader, up=False)),
        ]
        try:
            await asyncio.wait(ways, return_when=asyncio.FIRST_COMPLETED)
        finally:
            self._passages.remove(passage)
            for way in ways:
                way.cancel()
            await asyncio.gather(*ways, return_exceptions=True)

    async def _copies(self, publication: Publication) -> int:
        return 1 if self.judge is None else await self.judge(publication.topic, publication.payload)


@dataclass(slots=True, eq=False)
class _Passage:
    """One connection on a watched road."""

    road: WatchedRoad
    device: asyncio.StreamWriter
    broker: asyncio.StreamWriter
    is_ready: bool = False
    _own: int = _OWN_IDENTIFIERS
    _ours: Counter[tuple[bool, int]] = field(default_factory=Counter)
    """Acknowledgements that end here, by the way and identifier of the publication."""
    _last: set[tuple[bool, int]] = field(default_factory=set)
    """Publications with whose acknowledgement the connection ends."""

    async def carry(self, reader: asyncio.StreamReader, *, up: bool) -> None:
        """Carry packets one way until there are no more."""
        to = self.broker if up else self.device
        while (packet := await mqtt_packets.read(reader)) is not None:
            if packet.kind == PUBLISH:
                await self._publish(Publication.of(packet), up=up)
            elif packet.kind != PUBACK or not self._is_ours((not up, int.from_bytes(packet.body[:2], "big"))):
                to.write(packet.raw)
            if packet.kind == CONNACK:
                self.is_ready = True
            elif packet.kind == SUBACK:
                self.road._subscribed.set()
            await to.drain()

    async def send(self, publication: Publication) -> None:
        """Send a message whose acknowledgement nobody waits for."""
        self._own += 1
        up = "/up/" in publication.topic
        self._ours[up, self._own] += 1
        to = self.broker if up else self.device
        to.write(Publication(publication.topic, publication.payload, self._own, publication.retain).packet.raw)
        await to.drain()

    async def _publish(self, publication: Publication, *, up: bool) -> None:
        copies = await self.road._copies(publication)
        to, back = (self.broker, self.device) if up else (self.device, self.broker)
        to.write(publication.packet.raw * abs(copies))
        if publication.identifier is None:
            return
        if copies == CUT:
            self._last.add((up, publication.identifier))
        elif copies == 0:
            back.write(mqtt_packets.puback(publication.identifier))
        else:
            self._ours[up, publication.identifier] += copies - 1

    def _is_ours(self, publication: tuple[bool, int]) -> bool:
        if publication in self._last:
            for one in (self.device, self.broker):
                one.transport.abort()
            return True
        if self._ours[publication] == 0:
            return False
        self._ours[publication] -= 1
        return True


def watched(endpoints: Endpoints, judge: Judge | None = None) -> WatchedRoad:
    """Return a road to the devices' listener that has the broker's own certificate."""
    folder = endpoints.ca_file.parent
    tls = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    tls.load_cert_chain(folder / "server.crt", folder / "server.key")
    authority = ssl.create_default_context(cafile=endpoints.ca_file)
    return WatchedRoad(endpoints.device_mqtt_port, tls=tls, authority=authority, judge=judge)


@asynccontextmanager
async def opened(road: WatchedRoad) -> AsyncIterator[WatchedRoad]:
    """Open a road during the block."""
    await road.open()
    try:
        yield road
    finally:
        await road.close()


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
