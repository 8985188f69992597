"""One connection to the broker, which reconnects by itself and passes messages to shared.mqtt.dispatcher."""

from __future__ import annotations

import asyncio
import contextlib
import random
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from functools import partial
from typing import Any, Final, TypeVar, cast

import aiomqtt
import structlog
from paho.mqtt.packettypes import PacketTypes
from paho.mqtt.properties import Properties

from shared.errors import FleetError, UnavailableError
from shared.mqtt.client import Account, Client, entered
from shared.mqtt.dispatcher import Delivery, Dispatcher, Route, dated_route, device_route
from shared.protocol.topics import Topic

log = structlog.get_logger()
__all__ = ["Account", "Connection", "Delivery", "Route", "dated_route", "device_route"]

WINDOW: Final = 500
"""Limit of publications in flight; the broker allows 1,000 (max_inflight_messages)."""
_CALL_TIMEOUT_S: Final = 10.0
_BACKOFF_S: Final = (0.1, 10.0)
_GOODBYE_S: Final = 1.0

M = TypeVar("M")


class _Straight(asyncio.Queue[aiomqtt.Message]):
    """Replaces the unbounded queue of an aiomqtt client: passes each message on, and stores none."""

    def __init__(self, take: Callable[[aiomqtt.Message], None], maxsize: int) -> None:
        super().__init__(maxsize)
        self._take = take

    def put_nowait(self, item: aiomqtt.Message) -> None:
        self._take(item)


@dataclass(slots=True)
class Connection:
    """A connection to the broker: `run` keeps it up, `publish` uses it, `listen` adds routes.

    `will` and `birth` are (topic, payload) pairs, published retained: the will by the broker when the
    connection is lost, the birth message at each connect.
    """

    account: Account
    identifier: str
    will: tuple[str, bytes] | None = None
    birth: Callable[[], tuple[str, bytes]] | None = None
    dispatcher: Dispatcher = field(default_factory=Dispatcher)
    _client: Client | None = None
    _up: asyncio.Event = field(default_factory=asyncio.Event)
    up_since: datetime | None = None
    """Since when the connection is established without a break; None while it is not."""

    @asynccontextmanager
    async def running(self) -> AsyncIterator[Connection]:
        """Keep the connection up while the block runs; an error in it ends the block."""
        async with asyncio.TaskGroup() as tasks:
            task = tasks.create_task(self.run(), name=f"mqtt:{self.identifier}")
            try:
                yield self
            finally:
                task.cancel()

    async def run(self) -> None:
        """Connect, subscribe and dispatch, and reconnect, until cancelled."""
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(self.dispatcher.run(f"mqtt:{self.identifier}"))
            delay_s = _BACKOFF_S[0]
            while True:
                try:
                    async with self._connect() as client:
                        delay_s = _BACKOFF_S[0]
                        await anext(client.messages)  # yields none; it raises when the connection is lost
                except (aiomqtt.MqttError, TimeoutError, FleetError) as error:
                    log.warning("mqtt.lost", account=self.account.username, error=str(error), retry_in_s=delay_s)
                await asyncio.sleep(random.uniform(delay_s / 2, delay_s))  # noqa: S311 - jitter, no secret
                delay_s = min(2 * delay_s, _BACKOFF_S[1])

    async def listen(self, *routes: Route) -> None:
        """Add routes; subscribe to them now if the connection is up, else at the next connect."""
        self.dispatcher.routes.extend(routes)
        if self._client is not None:
            await self._subscribe(self._client, routes)

    @property
    def is_up(self) -> bool:
        """Whether the connection is established."""
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
        wanted = {
            "MessageExpiryInterval": None if expires_in_s is None else max(1, int(expires_in_s)),
            "ResponseTopic": response_topic,
            "CorrelationData": correlation_data,
        }
        if self._client is None:
            raise UnavailableError("the broker cannot be reached")
        try:
            async with asyncio.timeout(_CALL_TIMEOUT_S):
                await self._client.send(topic, payload, _properties(wanted), qos=qos, retain=retain)
        except (aiomqtt.MqttError, TimeoutError) as error:
            raise UnavailableError(f"the broker did not accept a message: {error}", topic=topic) from error

    async def send(self, topic: Topic[M], message: M, *, expires_in_s: float | None = None, **names: str) -> None:
        """Publish a message of the protocol, or raise UnavailableError."""
        await self.publish(
            topic.of(**names),
            topic.encode(message),
            qos=topic.qos,
            retain=topic.retain,
            expires_in_s=expires_in_s,
        )

    async def post(self, topic: Topic[M], message: M, **names: str) -> None:
        """Publish a message that its reader requests again if it is lost, or raise UnavailableError.

        Waits for the broker's acknowledgement only when many are outstanding.
        """
        if self._client is None or self._client.unacknowledged >= WINDOW:
            await self.send(topic, message, expires_in_s=None, **names)
            return
        try:
            self._client.post(topic.of(**names), topic.encode(message), qos=topic.qos, retain=topic.retain)
        except aiomqtt.MqttError as error:
            raise UnavailableError(f"the broker did not accept a message: {error}") from error

    @asynccontextmanager
    async def _connect(self) -> AsyncIterator[Client]:
        client = await self.account.client(
            self.identifier,
            will=aiomqtt.Will(*self.will, qos=1, retain=True) if self.will else None,
            max_inflight_messages=WINDOW,
            queue_type=cast("Any", partial(_Straight, self.dispatcher.take)),
        )
        async with entered(client, timeout_s=_CALL_TIMEOUT_S):
            # Messages arrive from the first subscription on, and handlers may answer them.
            self._client = client
            try:
                async with asyncio.timeout(_CALL_TIMEOUT_S):
                    await self._subscribe(client, self.dispatcher.routes)
                    if self.birth:
                        topic, payload = self.birth()
                        await client.deliver(topic, payload, retain=True)
                self._up.set()
                self.up_since = datetime.now(UTC)
                log.info("mqtt.connected", account=self.account.username, routes=len(self.dispatcher.routes))
                yield client
            finally:
                self._client = None
                self._up.clear()
                self.up_since = None
                await self._publish_will(client)

    async def _subscribe(self, client: aiomqtt.Client, routes: Sequence[Route]) -> None:
        if not routes:
            return
        wanted = [route.subscription(self.account.password) for route in routes]
        codes = await client.subscribe(
            [(topic, route.topic.qos) for topic, route in zip(wanted, routes, strict=True)]
        )
        for route, code in zip(routes, codes, strict=True):
            if getattr(code, "is_failure", False):
                raise aiomqtt.MqttError(f"the broker refuses the subscription to {route.topic.filter}: {code}")

    async def _publish_will(self, client: Client) -> None:
        """Publish the will: the broker does so only when a connection breaks, not when it is closed."""
        if self.will:
            topic, payload = self.will
            with contextlib.suppress(aiomqtt.MqttError, TimeoutError):
                async with asyncio.timeout(_GOODBYE_S):
                    await client.deliver(topic, payload, retain=True)


def _properties(wanted: Mapping[str, object]) -> Properties | None:
    """Return the properties that are not None, or None if there are none: they cost more than the message."""
    given = {name: value for name, value in wanted.items() if value is not None}
    if not given:
        return None
    properties = Properties(PacketTypes.PUBLISH)  # type: ignore[no-untyped-call]
    for name, value in given.items():
        setattr(properties, name, value)
    return properties
