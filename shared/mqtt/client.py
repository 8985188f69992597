"""The MQTT client of services, the admin's tool and devices: aiomqtt, with fixes."""

from __future__ import annotations

import asyncio
import math
import socket
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any, Final

import aiomqtt
from paho.mqtt import client as mqtt
from paho.mqtt.enums import MQTTErrorCode
from paho.mqtt.properties import Properties
from paho.mqtt.reasoncodes import ReasonCode
from pydantic import SecretStr

from shared.auth import client_token
from shared.errors import cancellation_first

TCP_NODELAY: Final = (socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
"""A socket option: without it an answered request takes 25 ms on an idle network."""


_LOOKS_A_KEEPALIVE: Final = 8


class Client(aiomqtt.Client):
    """A client that returns the broker's reason code for a publication, which the library hides.

    Thousands can share a process: each checks its keepalive not every second but often enough, and none uses the
    socket of another. It has no timeouts of its own: its users set them (`entered`).
    """

    def __init__(self, *arguments: Any, connect_timeout_s: float | None = None, **options: Any) -> None:  # noqa: ANN401 - as the library has it
        super().__init__(*arguments, **{"timeout": math.inf, "socket_options": [TCP_NODELAY], **options})
        self._codes: dict[int, asyncio.Future[int]] = {}
        if connect_timeout_s is not None:
            # A timeout around it would not end the thread that opens the socket.
            self._client.connect_timeout = connect_timeout_s

    async def deliver(
        self, topic: str, payload: bytes, properties: Properties | None = None, *, retain: bool = False
    ) -> int:
        """Publish with QoS 1 and return the reason code of the PUBACK (MQTT 5, 3.4.2.1).

        Raise MqttError if the connection breaks before, at once: the library waits for a timeout.
        """
        mid = self.post(topic, payload, properties, qos=1, retain=retain)
        code: asyncio.Future[int] = asyncio.get_running_loop().create_future()

        def fail(disconnected: asyncio.Future[None]) -> None:
            error = aiomqtt.MqttError("the connection broke")
            error.__cause__ = None if disconnected.cancelled() else disconnected.exception()
            if not code.done():
                code.set_exception(error)

        self._codes[mid] = code
        self._disconnected.add_done_callback(fail)
        try:
            return await code
        finally:
            self._disconnected.remove_done_callback(fail)
            del self._codes[mid]

    @property
    def unacknowledged(self) -> int:
        """The number of publications that the broker has not acknowledged yet."""
        return len(self._client._out_messages)  # noqa: SLF001 - paho counts them, but has no public accessor

    def post(
        self, topic: str, payload: bytes, properties: Properties | None = None, *, qos: int, retain: bool
    ) -> int:
        """Publish without waiting for the acknowledgement; return the message's id, or raise MqttError."""
        info = self._client.publish(topic, payload, qos, retain, properties)
        if info.rc != MQTTErrorCode.MQTT_ERR_SUCCESS:
            raise aiomqtt.MqttCodeError(info.rc, "could not publish")
        return info.mid

    async def send(
        self, topic: str, payload: bytes, properties: Properties | None = None, *, qos: int, retain: bool
    ) -> None:
        """Publish, with QoS 1 as `deliver` and with QoS 0 as `post`."""
        if qos:
            await self.deliver(topic, payload, properties, retain=retain)
        else:
            self.post(topic, payload, properties, qos=qos, retain=retain)

    def _on_publish(
        self,
        client: mqtt.Client,
        userdata: Any,  # noqa: ANN401 - as the library has it
        mid: int,
        reason_code: ReasonCode,
        properties: Properties,
    ) -> None:
        code = self._codes.get(mid)
        if code is not None and not code.done():
            code.set_result(reason_code.value)
        super()._on_publish(client, userdata, mid, reason_code, properties)

    async def _misc_loop(self) -> None:
        # Pings are at most an eighth of the keepalive late; the broker waits for half of it (MQTT 5, 3.1.2.10).
        while self._client.loop_misc() == MQTTErrorCode.MQTT_ERR_SUCCESS:  # noqa: ASYNC110 - paho has no event
            await asyncio.sleep(self._keepalive / _LOOKS_A_KEEPALIVE)

    def _on_disconnect(
        self,
        client: mqtt.Client,
        userdata: Any,  # noqa: ANN401 - as the library has it
        flags: mqtt.DisconnectFlags,
        reason_code: ReasonCode,
        properties: Properties | None = None,
    ) -> None:
        # When connecting was abandoned, the library would raise where nobody catches it.
        if not self._connected.cancelled():
            super()._on_disconnect(client, userdata, flags, reason_code, properties)
            self._loop.call_soon_threadsafe(self._fail_connecting)

    def _fail_connecting(self) -> None:
        """End the wait for a CONNACK when the connection is closed before: the library waits for a timeout."""
        if not self._connected.done():
            self._connected.set_exception(aiomqtt.MqttError("the connection was closed without an answer"))
            self._connected.exception()  # It counts as retrieved, also if nobody waits for it any more.

    def _on_socket_open(self, client: mqtt.Client, userdata: Any, sock: socket.socket) -> None:  # noqa: ANN401
        self._loop.call_soon_threadsafe(self._read_soon, client, userdata, sock)

    def _read_soon(self, client: mqtt.Client, userdata: Any, sock: socket.socket) -> None:  # noqa: ANN401
        """Read on the next pass; if the socket was closed meanwhile, its descriptor may have been reused."""
        if sock.fileno() >= 0:
            super()._on_socket_open(client, userdata, sock)

    def _on_socket_register_write(self, client: mqtt.Client, userdata: Any, sock: socket.socket) -> None:  # noqa: ANN401
        del userdata
        self._loop.call_soon_threadsafe(self._write_soon, client, sock)

    def _write_soon(self, client: mqtt.Client, sock: socket.socket) -> None:
        """Write when the socket is ready; if it was closed meanwhile, its descriptor may have been reused."""
        if sock.fileno() >= 0:
            self._loop.add_writer(sock.fileno(), self._write, client)

    def _write(self, client: mqtt.Client) -> None:
        try:
            client.loop_write()
        except Exception as error:  # noqa: BLE001 - as in the library: any error breaks the connection
            if not self._disconnected.done():
                self._disconnected.set_exception(error)


@dataclass(frozen=True, slots=True)
class Account:
    """Address and credentials of an account at the broker.

    With a `token_url` the account is a client of Keycloak, which issues a token for its password there.
    """

    host: str
    port: int
    username: str
    password: SecretStr
    token_url: str | None = None

    async def client(self, identifier: str, **options: Any) -> Client:  # noqa: ANN401 - as the library has it
        """Return a client, not connected; without a token raise CredentialsRefusedError or UnavailableError."""
        password = await client_token.password(self.token_url, self.username, self.password)
        return Client(
            self.host,
            self.port,
            username=self.username,
            password=password.get_secret_value(),
            identifier=identifier,
            protocol=aiomqtt.ProtocolVersion.V5,
            **options,
        )


@asynccontextmanager
async def entered(client: aiomqtt.Client, *, timeout_s: float) -> AsyncIterator[None]:
    """Connect a client that has no timeout of its own, and disconnect it at the end; may raise TimeoutError.

    A finite timeout of aiomqtt is an asyncio.wait_for, which loses a cancellation that arrives at the same time as
    an answer (Python 3.11, bpo-37658): a service would then ignore its shutdown and run forever.
    """
    with cancellation_first():
        async with asyncio.timeout(timeout_s):
            await client.__aenter__()
        try:
            yield
        finally:
            async with asyncio.timeout(timeout_s):
                await client.__aexit__(None, None, None)
