"""A door before Mosquitto that wants Keycloak's tokens, so that logins with tokens are tested without a cluster.

It checks the token in each CONNECT as a broker that checks tokens does, puts the password that Mosquitto knows in
its place, and carries all the rest as it is.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass

from joserfc import jws, jwt
from joserfc.errors import JoseError

from deploy.rmqtt import ANY_CLIENT, AUDIENCE
from dev.servers.base import HOST
from shared.auth.tokens import SigningKeys
from shared.errors import FleetError
from tests import mqtt_packets
from tests.cluster.balancer import join

_REFUSALS = {4: b"\x20\x02\x00\x05", 5: b"\x20\x03\x00\x87\x00"}
_CONNECT = 0x10
_FLAGS_AT = 7
_WILL, _PROPERTIES_SINCE = 0x04, 5


@dataclass(frozen=True, slots=True)
class Connect:
    """A CONNECT (MQTT 3.1.1 and 5, section 3.1): who comes, and all before the password."""

    level: int
    client_id: str
    username: str
    password: str
    before: bytes

    def with_password(self, password: str) -> bytes:
        """Return the packet with another password."""
        body = self.before + len(password).to_bytes(2, "big") + password.encode()
        return mqtt_packets.Packet(_CONNECT, body).raw


@dataclass(frozen=True, slots=True)
class Door:
    """Lets in whoever has a token; `password` is what Mosquitto wants of an account."""

    keys: SigningKeys
    issuer: str
    broker_port: int
    password: Callable[[str], str]

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Serve one connection to its end."""
        with contextlib.closing(writer), contextlib.suppress(OSError, asyncio.IncompleteReadError):
            connect = await _read(reader)
            if not await self._knows(connect):
                writer.write(_REFUSALS[connect.level])
                await writer.drain()
                return
            inner_reader, inner_writer = await asyncio.open_connection(HOST, self.broker_port)
            with contextlib.closing(inner_writer):
                inner_writer.write(connect.with_password(self.password(connect.username)))
                await join(reader, writer, inner_reader, inner_writer)

    async def _knows(self, connect: Connect) -> bool:
        wanted = jwt.JWTClaimsRegistry(
            iss={"essential": True, "value": self.issuer},
            aud={"essential": True, "value": AUDIENCE},
            exp={"essential": True},
            azp={"essential": True, "value": connect.username},
            mqtt_client_id={"essential": True, "values": [connect.client_id, ANY_CLIENT]},
        )
        try:
            key = await self.keys.get(jws.extract_compact(connect.password.encode()).headers()["kid"])
            if key is None:
                return False
            wanted.validate(jwt.decode(connect.password, key, algorithms=["RS256"]).claims)
        except (JoseError, FleetError, ValueError, KeyError):
            return False
        return True


@asynccontextmanager
async def opened(broker_port: int, realm_url: str, password: Callable[[str], str]) -> AsyncIterator[int]:
    """Open the door during the block, and yield its port."""
    door = Door(SigningKeys(realm_url), realm_url, broker_port, password)
    server = await asyncio.start_server(door.serve, HOST, 0)
    try:
        yield server.sockets[0].getsockname()[1]
    finally:
        server.close()


async def _read(reader: asyncio.StreamReader) -> Connect:
    packet = await mqtt_packets.read(reader)
    if packet is None:
        raise asyncio.IncompleteReadError(b"", 1)
    body = packet.body
    level, flags = body[_FLAGS_AT - 1], body[_FLAGS_AT]
    at = _FLAGS_AT + 3

    def field() -> str:
        nonlocal at
        size = int.from_bytes(body[at : at + 2], "big")
        at += 2 + size
        return body[at - size : at].decode(errors="replace")

    def properties() -> None:
        nonlocal at
        if level >= _PROPERTIES_SINCE:
            at += 1 + body[at]  # one digit: clients here have few of them

    properties()
    client_id = field()
    if flags & _WILL:
        properties()
        field()
        field()
    username = field()
    before = body[:at]
    return Connect(level, client_id, username, field(), before)
