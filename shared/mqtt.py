"""One connection to the broker that comes back by itself, and the way of its messages to their handlers.

Messages of one device are handled in their order, those of different devices side by side, in a fixed number
of lanes: a full lane makes the reader wait, so that no flood of messages grows without bound here.
"""

from __future__ import annotations

import asyncio
import contextlib
import math
import random
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any, Final, TypeVar

import aiomqtt
import structlog
from paho.mqtt.packettypes import PacketTypes
from paho.mqtt.properties import Properties
from pydantic import SecretStr

from shared import metrics
from shared.errors import FleetError, MessageRefusedError, UnavailableError
from shared.mqtt_client import TCP_NODELAY, entered
from shared.topics import Topic

log = structlog.get_logger()

LANES: Final = 32
LANE_LENGTH: Final = 100
_CALL_TIMEOUT_S: Final = 10.0
_BACKOFF_S: Final = (0.1, 10.0)
_GOODBYE_S: Final = 1.0
_RETRY_S: Final = 1.0
_PATIENCE_S: Final = 120.0

M = TypeVar("M")


@dataclass(frozen=True, slots=True)
class Delivery:
    """A message as it came: the names in its topic, its raw payload and what MQTT 5 says of a reply."""

    names: Mapping[str, str]
    payload: bytes
    response_topic: str | None = None
    correlation_data: bytes | None = None


@dataclass(frozen=True, slots=True)
class Route:
    """Which handler takes the messages of a topic; replicas in a `group` share them (`$share`)."""

    topic: Topic[Any]
    handle: Callable[[Delivery], Awaitable[None]]
    group: str | None = None

    @property
    def subscription(self) -> str:
        """The topic filter to subscribe to."""
        return f"$share/{self.group}/{self.topic.filter}" if self.group else self.topic.filter


@dataclass(frozen=True, slots=True)
class Account:
    """Where and as whom to connect."""

    host: str
    port: int
    username: str
    password: SecretStr


def device_route(
    topic: Topic[M],
    handler: Callable[[str, M], Awaitable[None]],
    *,
    group: str | None = None,
    sender: str = "client_id",
) -> Route:
    """Return a route that decodes a device's message and calls `handler(client_id, message)`.

    `sender` is the name in the topic that says who speaks.
    """

    async def handle(delivery: Delivery) -> None:
        await handler(delivery.names[sender], topic.decode(delivery.payload))

    return Route(topic, handle, group)


@dataclass(slots=True)
class Connection:
    """A connection to the broker: `run` keeps it up, `publish` uses it, `listen` adds routes.

    `will` and `greeting` are (topic, payload) pairs, published retained: the one by the broker when the
    connection is lost, the other at each connect.
    """

    account: Account
    identifier: str
    will: tuple[str, bytes] | None = None
    greeting: Callable[[], tuple[str, bytes]] | None = None
    _routes: list[Route] = field(default_factory=list)
    _client: aiomqtt.Client | None = None
    _up: asyncio.Event = field(default_factory=asyncio.Event)
    _lanes: list[asyncio.Queue[tuple[Route, Delivery, str]]] = field(
        default_factory=lambda: [asyncio.Queue(LANE_LENGTH) for _ in range(LANES)]
    )

    @asynccontextmanager
    async def running(self) -> AsyncIterator[Connection]:
        """Keep the connection up while the block runs; what fails in it ends the block."""
        async with asyncio.TaskGroup() as tasks:
            task = tasks.create_task(self.run(), name=f"mqtt:{self.identifier}")
            try:
                yield self
            finally:
                task.cancel()

    async def run(self) -> None:
        """Connect, subscribe and dispatch, again and again, until cancelled."""
        async with asyncio.TaskGroup() as tasks:
            for number, lane in enumerate(self._lanes):
                tasks.create_task(self._work(lane), name=f"mqtt:{self.identifier}:lane-{number}")
            delay_s = _BACKOFF_S[0]
            while True:
                try:
                    async with self._connect() as client:
                        delay_s = _BACKOFF_S[0]
                        await self._read(client)
                except (aiomqtt.MqttError, TimeoutError) as error:
                    log.warning("mqtt.lost", account=self.account.username, error=str(error), retry_in_s=delay_s)
                await asyncio.sleep(random.uniform(delay_s / 2, delay_s))  # noqa: S311 - jitter, no secret
                delay_s = min(2 * delay_s, _BACKOFF_S[1])

    async def listen(self, *routes: Route) -> None:
        """Add routes, and subscribe to them now if the connection is up, else when it comes up."""
        self._routes.extend(routes)
        if self._client is not None:
            await _subscribe(self._client, routes)

    @property
    def is_up(self) -> bool:
        """Whether messages come and go."""
        return self._up.is_set()

    async def ready(self) -> None:
        """Wait until the connection is up."""
        await self._up.wait()

    async def publish(
        self,
        topic: str,
        payload: bytes,
        *,
        qos: int = 1,
        retain: bool = False,
        expires_in_s: float | None = None,
        response_topic: str | None = None,
        correlation_data: bytes | None = None,
    ) -> None:
        """Publish and wait for the broker's acknowledgement, or raise UnavailableError."""
        properties = Properties(PacketTypes.PUBLISH)  # type: ignore[no-untyped-call]
        if expires_in_s is not None:
            properties.MessageExpiryInterval = max(1, int(expires_in_s))
        if response_topic is not None:
            properties.ResponseTopic = response_topic
        if correlation_data is not None:
            properties.CorrelationData = correlation_data
        if self._client is None:
            raise UnavailableError("the broker can not be reached")
        try:
            async with asyncio.timeout(_CALL_TIMEOUT_S):
                await self._client.publish(topic, payload, qos, retain, properties)
        except (aiomqtt.MqttError, TimeoutError) as error:
            raise UnavailableError(f"the broker did not take a message: {error}", topic=topic) from error

    async def send(self, topic: Topic[M], message: M, *, expires_in_s: float | None = None, **names: str) -> None:
        """Publish a message of the protocol, or raise UnavailableError."""
        await self.publish(
            topic.of(**names),
            topic.encode(message),
            qos=topic.qos,
            retain=topic.retain,
            expires_in_s=expires_in_s,
        )

    @asynccontextmanager
    async def _connect(self) -> AsyncIterator[aiomqtt.Client]:
        client = aiomqtt.Client(
            self.account.host,
            self.account.port,
            username=self.account.username,
            password=self.account.password.get_secret_value(),
            identifier=self.identifier,
            protocol=aiomqtt.ProtocolVersion.V5,
            will=aiomqtt.Will(*self.will, qos=1, retain=True) if self.will else None,
            timeout=math.inf,
            socket_options=[TCP_NODELAY],
        )
        client.pending_calls_threshold = 10_000
        async with entered(client, timeout_s=_CALL_TIMEOUT_S):
            async with asyncio.timeout(_CALL_TIMEOUT_S):
                await _subscribe(client, self._routes)
                if self.greeting:
                    topic, payload = self.greeting()
                    await client.publish(topic, payload, 1, retain=True)
            self._client = client
            self._up.set()
            log.info("mqtt.connected", account=self.account.username, routes=len(self._routes))
            try:
                yield client
            finally:
                self._client = None
                self._up.clear()
                await self._say_the_will(client)

    async def _say_the_will(self, client: aiomqtt.Client) -> None:
        """Publish the will: the broker does so only for a connection that breaks, not for one that is ended."""
        if self.will:
            topic, payload = self.will
            with contextlib.suppress(aiomqtt.MqttError, TimeoutError):
                async with asyncio.timeout(_GOODBYE_S):
                    await client.publish(topic, payload, 1, retain=True)

    async def _read(self, client: aiomqtt.Client) -> None:
        async for message in client.messages:
            topic = str(message.topic)
            for route in self._routes:
                names = route.topic.match(topic)
                if names is not None:
                    delivery = _delivery(names, message)
                    lane = hash(names.get("client_id") or delivery.payload) % LANES
                    await self._lanes[lane].put((route, delivery, topic))
                    break

    async def _work(self, lane: asyncio.Queue[tuple[Route, Delivery, str]]) -> None:
        while True:
            route, delivery, topic = await lane.get()
            outcome = "handled"
            try:
                await _handle_patiently(route, delivery, topic)
            except MessageRefusedError as error:
                outcome = "refused"
                log.warning("message.refused", topic=topic, reason=error.message)
            except FleetError as error:
                outcome = "failed"
                log.warning("message.failed", topic=topic, code=error.code, reason=error.message)
            except Exception:
                outcome = "crashed"
                log.exception("message.crashed", topic=topic)
            metrics.MESSAGES.labels(route.topic.template, outcome).inc()


async def _handle_patiently(route: Route, delivery: Delivery, topic: str) -> None:
    """Handle a message, again and again while a neighbour is away; its lane waits, and so does the broker."""
    give_up_at = asyncio.get_running_loop().time() + _PATIENCE_S
    while True:
        try:
            return await route.handle(delivery)
        except UnavailableError as error:
            if asyncio.get_running_loop().time() > give_up_at:
                raise
            log.warning("message.waits", topic=topic, reason=error.message)
        await asyncio.sleep(_RETRY_S)


def _delivery(names: dict[str, str], message: aiomqtt.Message) -> Delivery:
    payload = message.payload if isinstance(message.payload, bytes) else b""
    return Delivery(
        names,
        payload,
        getattr(message.properties, "ResponseTopic", None),
        getattr(message.properties, "CorrelationData", None),
    )


async def _subscribe(client: aiomqtt.Client, routes: Sequence[Route]) -> None:
    if not routes:
        return
    codes = await client.subscribe([(route.subscription, route.topic.qos) for route in routes])
    for route, code in zip(routes, codes, strict=True):
        if getattr(code, "is_failure", False):
            raise aiomqtt.MqttError(f"the broker refuses the subscription {route.subscription}: {code}")
