"""The proxy before the broker's listener for claims: `python -m deploy.claim_proxy`.

Everybody may reach that listener, and Mosquitto (src/net.c, 2.0) limits its connections in total, but not by
address: one address could use them all and keep new machines out. The proxy forwards bytes, TLS included, within
limits.
"""

from __future__ import annotations

import asyncio
import socket
from dataclasses import dataclass
from typing import Final

import structlog

from shared.runtime import lifecycle, listener
from shared.runtime.settings import ClaimProxySettings

log = structlog.get_logger()
MAX_CONNECTIONS: Final = 1000
"""The same as the broker's listener, see `max_connections` in deploy/mosquitto/mosquitto.conf."""
CONNECT_S: Final = 10.0
HANDSHAKE_S: Final = 10.0
"""Timeout for the first bytes of a machine, and for its answer to the broker's part of the handshake."""
_FLIGHTS: Final = 2
IDLE_S: Final = 180.0
"""A client pings after its keepalive without traffic: 30 s for the reference device, 120 s for ESP-IDF."""
LIFETIME_S: Final = 600.0
"""A machine gets its identity within seconds, or waits for an admin's approval and connects again."""
_PIECE_BYTES: Final = 16 * 1024


@dataclass(frozen=True, slots=True)
class Proxy:
    """Opens a connection to the broker for each machine's connection, and forwards bytes between the two."""

    settings: ClaimProxySettings

    async def serve(self, machine: socket.socket) -> None:
        """Return when both are closed. A machine that never sends anything does not reach the broker."""
        with machine:
            try:
                async with asyncio.timeout(LIFETIME_S):
                    first = await _received(machine, HANDSHAKE_S)
                    if first:
                        with await self._broker() as broker:
                            await _join(machine, broker, first)
            except (OSError, TimeoutError):
                return

    async def _broker(self) -> socket.socket:
        """Return a connection to the broker; raise OSError, or TimeoutError after CONNECT_S."""
        place = (self.settings.mqtt_host, self.settings.claim_proxy_broker_port)
        try:
            async with asyncio.timeout(CONNECT_S):
                return await _connected(*place)
        except (OSError, TimeoutError) as error:
            log.warning("claim_proxy.broker_unavailable", error=str(error) or f"no answer for {CONNECT_S:g} s")
            raise


async def _connected(host: str, port: int) -> socket.socket:
    """Return a connection to the first of a host's addresses that accepts one."""
    loop = asyncio.get_running_loop()
    failure = OSError(f"{host} has no address")
    for family, kind, protocol, _, address in await loop.getaddrinfo(host, port, type=socket.SOCK_STREAM):
        connection = socket.socket(family, kind, protocol)
        try:
            connection.setblocking(False)  # noqa: FBT003
            await loop.sock_connect(connection, address)
        except BaseException as error:
            connection.close()
            if not isinstance(error, OSError):
                raise
            failure = error
        else:
            return connection
    raise failure


async def _join(machine: socket.socket, broker: socket.socket, first: bytes) -> None:
    """Forward bytes in both directions until one side closes or the machine is silent for too long."""
    ways = [
        asyncio.create_task(_upwards(machine, broker, first), name="upwards"),
        asyncio.create_task(_downwards(broker, machine), name="downwards"),
    ]
    try:
        await asyncio.wait(ways, return_when=asyncio.FIRST_COMPLETED)
    finally:
        for way in ways:
            way.cancel()
        await asyncio.gather(*ways, return_exceptions=True)


async def _upwards(machine: socket.socket, broker: socket.socket, piece: bytes) -> None:
    loop, flights = asyncio.get_running_loop(), 1
    while piece:
        await loop.sock_sendall(broker, piece)
        piece = await _received(machine, HANDSHAKE_S if flights < _FLIGHTS else IDLE_S)
        flights += 1


async def _downwards(broker: socket.socket, machine: socket.socket) -> None:
    loop = asyncio.get_running_loop()
    while piece := await loop.sock_recv(broker, _PIECE_BYTES):
        await loop.sock_sendall(machine, piece)


async def _received(machine: socket.socket, within_s: float) -> bytes:
    """Return the next bytes, empty at the end; raise TimeoutError if none come in time."""
    async with asyncio.timeout(within_s):
        return await asyncio.get_running_loop().sock_recv(machine, _PIECE_BYTES)


async def main(settings: ClaimProxySettings) -> None:
    """Serve until cancelled; raise InvalidInputError for an address that cannot be used."""
    host, port = settings.claim_proxy_host, settings.claim_proxy_port
    listening = listener.listening_on(host, port, settings="MDM_CLAIM_PROXY_HOST, MDM_CLAIM_PROXY_PORT")
    log.info("claim_proxy.listens", host=host, port=port)
    await listener.Listener(
        listening,
        Proxy(settings).serve,
        max_connections=MAX_CONNECTIONS,
        max_per_address=settings.claim_proxy_max_per_address,
    ).run()


if __name__ == "__main__":
    lifecycle.run("claim-proxy", ClaimProxySettings, main)
