"""One connection to the broker; aiomqtt's errors are translated here."""

from __future__ import annotations

import asyncio
import logging
import ssl
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import lru_cache
from typing import Any, Final, Self

import aiomqtt
from aiomqtt.exceptions import MqttConnectError
from paho.mqtt.packettypes import PacketTypes
from paho.mqtt.properties import Properties
from paho.mqtt.reasoncodes import ReasonCode
from pydantic import SecretStr

from device.options import Options
from shared.errors import FleetError, InvalidInputError, UnavailableError
from shared.mqtt.client import Client
from shared.protocol import messages, topics
from shared.protocol.admin import ClaimPackage, Package

# MQTT 3.1.1 section 3.2.2.3: 4 and 5; MQTT 5 section 3.2.2.2: 0x86 and 0x87.
_REFUSED: Final = frozenset({4, 5, 0x86, 0x87})
_FAILED_SUBACK: Final = 0x80
_LOGGER: Final = logging.getLogger("device.mqtt")
_LOGGER.setLevel(logging.ERROR)


class LoginRefusedError(FleetError):
    """The broker knows this client but refuses the secret."""

    code = "login_refused"


class LinkLostError(UnavailableError):
    """The broker cannot be reached, or the connection broke."""


def tls_context(package: Package | ClaimPackage) -> ssl.SSLContext | None:
    """Return a context that trusts the package's own authority, or None without TLS; raise InvalidInputError."""
    return trust_of(package) if package.mqtt_tls else None


def trust_of(package: Package | ClaimPackage) -> ssl.SSLContext:
    """Return a context that trusts the package's own authority, else the usual ones; raise InvalidInputError."""
    return _trust(package.ca_certificate)


@lru_cache(maxsize=16)
def _trust(ca_certificate: str | None) -> ssl.SSLContext:
    """Return one context for all devices of an authority: it takes 9 KiB, with the usual authorities 0.8 MiB."""
    try:
        return ssl.create_default_context(cadata=ca_certificate)
    except (ssl.SSLError, ValueError) as error:
        raise InvalidInputError(f"ca_certificate: must be certificates in PEM: {error}") from error


@dataclass(frozen=True, slots=True)
class Login:
    """The address and credentials of a login; `session` holds options that differ between MQTT versions."""

    host: str
    port: int
    username: str
    password: SecretStr
    client_id: str
    will: aiomqtt.Will | None = None
    session: Mapping[str, Any] = field(default_factory=dict)


def device_login(package: Package, password: SecretStr, generation: int, options: Options) -> Login:
    """Return the login of a device: with a will, and a session that outlives the connection.

    The will has the generation of the secret of this login, which is checked before an old secret is restored.
    """
    offline = topics.STATUS.encode(messages.Status(online=False, secret_generation=generation))
    session: dict[str, Any] = {"protocol": aiomqtt.ProtocolVersion.V311, "clean_session": False}
    if options.protocol == "5":
        expiry = Properties(PacketTypes.CONNECT)  # type: ignore[no-untyped-call]
        expiry.SessionExpiryInterval = options.session_expiry_s
        session = {"protocol": aiomqtt.ProtocolVersion.V5, "clean_start": False, "properties": expiry}
    return Login(
        package.mqtt_host,
        package.mqtt_port,
        username=package.client_id,
        password=password,
        client_id=package.client_id,
        will=aiomqtt.Will(topics.STATUS.of(client_id=package.client_id), offline, topics.STATUS.qos, retain=True),
        session=session,
    )


def claim_login(package: ClaimPackage, uid: str) -> Login:
    """Return the login of a machine without an identity: many share an account, each with its own client id."""
    return Login(
        package.mqtt_host,
        package.mqtt_port,
        username=package.account,
        password=SecretStr(package.password),
        client_id=uid,
        session={"protocol": aiomqtt.ProtocolVersion.V311, "clean_session": True},
    )


class Link:
    """An established connection; opened by `connect`, closed by `close` or `drop`."""

    def __init__(self, client: Client, answer_timeout_s: float) -> None:
        self._client = client
        self._client._client.manual_ack_set(on=True)  # noqa: SLF001 - aiomqtt has no option for it
        self._answer_timeout_s = answer_timeout_s
        self._received: aiomqtt.Message | None = None

    @classmethod
    async def connect(cls, login: Login, options: Options, *, tls: ssl.SSLContext | None) -> Self:
        """Log in, or raise LoginRefusedError or LinkLostError."""
        link = cls(_client(login, options, tls), options.answer_timeout_s)
        entering = asyncio.ensure_future(link._client.__aenter__())
        try:
            async with asyncio.timeout(options.answer_timeout_s):
                await asyncio.shield(entering)
        except MqttConnectError as error:
            link.drop()
            code = error.rc.value if isinstance(error.rc, ReasonCode) else error.rc
            if code in _REFUSED:
                raise LoginRefusedError(f"the broker refused the login: {error}") from error
            raise LinkLostError(f"the broker is not ready: {error}") from error
        except aiomqtt.MqttError as error:
            link.drop()
            raise LinkLostError(f"the broker does not answer: {error}") from error
        except TimeoutError:
            entering.add_done_callback(link._abandon)
            entering.cancel()
            raise LinkLostError("the broker does not answer in time") from None
        except asyncio.CancelledError:
            # The connecting thread cannot be stopped: its connection is closed once it returns.
            entering.add_done_callback(link._abandon)
            raise
        return link

    async def subscribe(self, topic_filter: str) -> None:
        """Subscribe with QoS 1, or raise LinkLostError."""
        try:
            async with asyncio.timeout(self._answer_timeout_s):
                granted = await self._client.subscribe(topic_filter, qos=1)
        except (aiomqtt.MqttError, TimeoutError) as error:
            raise LinkLostError(f"the subscription failed: {error}") from error
        codes = [code.value if isinstance(code, ReasonCode) else code for code in granted]
        if any(code >= _FAILED_SUBACK for code in codes):
            raise LinkLostError(f"the broker refused the subscription to {topic_filter}")

    async def publish(self, topic: str, payload: bytes, *, qos: int, retain: bool) -> None:
        """Publish and wait for the broker's acknowledgement, or raise LinkLostError."""
        try:
            async with asyncio.timeout(self._answer_timeout_s):
                await self._client.send(topic, payload, qos=qos, retain=retain)
        except (aiomqtt.MqttError, TimeoutError, ValueError) as error:
            raise LinkLostError(f"the broker did not accept {topic}: {error}") from error

    async def receive(self) -> tuple[str, bytes]:
        """Return the next message as topic and payload, or raise LinkLostError.

        Until `acknowledge` the broker may deliver it again, on another connection.
        """
        try:
            message = await anext(self._client.messages)
        except aiomqtt.MqttError as error:
            raise LinkLostError(f"the connection broke: {error}") from error
        self._received = message
        payload = message.payload
        return message.topic.value, payload if isinstance(payload, bytes) else str(payload or "").encode()

    async def receive_within(self, seconds: float) -> tuple[str, bytes] | None:
        """Return the next message, as `receive`, or None if none comes in this time."""
        try:
            async with asyncio.timeout(seconds):
                return await self.receive()
        except TimeoutError:
            return None

    @property
    def waiting(self) -> int:
        """The number of messages that wait to be received."""
        return len(self._client.messages)

    def acknowledge(self) -> None:
        """Acknowledge the message received last to the broker."""
        if self._received is not None:
            self._client._client.ack(self._received.mid, self._received.qos)  # noqa: SLF001

    async def close(self) -> None:
        """Disconnect cleanly, so that the broker publishes no will; raise LinkLostError."""
        try:
            async with asyncio.timeout(self._answer_timeout_s):
                await self._client.__aexit__(None, None, None)
        except (aiomqtt.MqttError, TimeoutError, ValueError) as error:
            raise LinkLostError(f"the disconnect failed: {error}") from error

    def drop(self) -> None:
        """Close the socket without DISCONNECT, as a power cut does; do nothing if it is closed."""
        # Neither library has a public way to close without DISCONNECT, which would suppress the will.
        self._client._client._sock_close()  # noqa: SLF001
        disconnected = self._client._disconnected  # noqa: SLF001 - asyncio warns about errors that are never retrieved
        if disconnected.done() and not disconnected.cancelled():
            disconnected.exception()

    def _abandon(self, entering: asyncio.Future[Any]) -> None:
        if not entering.cancelled():
            entering.exception()
        self.drop()


def _client(login: Login, options: Options, tls: ssl.SSLContext | None) -> Client:
    return Client(
        login.host,
        login.port,
        identifier=login.client_id,
        username=login.username,
        password=login.password.get_secret_value(),
        will=login.will,
        keepalive=options.keepalive_s,
        tls_context=tls,
        logger=_LOGGER,
        **login.session,
    )
