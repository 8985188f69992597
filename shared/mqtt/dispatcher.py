"""Dispatch of messages to their handlers, with a queue for each sender.

Messages of one device are handled in order, except for paced ones, and those of different devices concurrently, by
a fixed number of workers: a device waits for its turn, never for all messages of another one, and an admin never
waits for devices. A message is accepted or dropped at once (shared.mqtt.admission), so that nothing grows without
bound. The newest message of a retained topic is deferred instead of dropped.
"""

from __future__ import annotations

import asyncio
import hmac
import time
from collections import deque
from collections.abc import Awaitable, Callable, Hashable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from itertools import count
from typing import Any, Final, TypeVar

import aiomqtt
import structlog
from pydantic import SecretStr

from shared.errors import FleetError, MessageRefusedError, UnavailableError
from shared.mqtt.admission import AdmissionControl, Sender
from shared.protocol.flaws import Flaw
from shared.protocol.topics import Topic
from shared.runtime import metrics

log = structlog.get_logger()

WORKERS: Final = 64
QUEUES: Final = 16
"""Number of queues of one admin or claim, and so the most workers that it keeps busy."""
_NAME_DIGITS: Final = 32
_RETRY_S: Final = 1.0
_PATIENCE_S: Final = 120.0
_DEFER_S: Final = 1.0

M = TypeVar("M")
NoteFlaws = Callable[[str, Topic[Any], Sequence[Flaw]], Awaitable[None]]
"""Stores the flaws of the message that a device, by its client id, has sent on a topic."""


@dataclass(frozen=True, slots=True)
class Delivery:
    """A received message: the names in its topic, its raw payload, and its MQTT 5 properties for a reply."""

    names: Mapping[str, str]
    payload: bytes
    response_topic: str | None = None
    correlation_data: bytes | None = None
    retained: bool = False
    """Whether the broker had retained it and sent it because of our subscription: it may be old."""
    received_at: datetime = field(default_factory=lambda: datetime.now(UTC))


@dataclass(frozen=True, slots=True)
class Route:
    """A topic and the handler of its messages; replicas in a `group` share them (`$share`).

    What is not `wanted`, by the names in the topic, is ignored before it costs anything.
    """

    topic: Topic[Any]
    handle: Callable[[Delivery], Awaitable[None]]
    group: str | None = None
    wanted: Callable[[Mapping[str, str]], bool] = field(default=lambda _: True)

    def subscription(self, password: SecretStr) -> str:
        """Return the topic filter of the subscription, for the account that has this password.

        A member of a shared subscription receives a part of its messages, which are lost if it may not read them,
        and Mosquitto lets any account join unless a role denies it. So the name of the share is one that only the
        replicas can compute.
        """
        if self.group is None:
            return self.topic.filter
        name = hmac.digest(password.get_secret_value().encode(), b"share", "sha256").hex()[:_NAME_DIGITS]
        return f"$share/{self.group}-{name}/{self.topic.filter}"


@dataclass(frozen=True, slots=True)
class Waiting:
    """A message that waits for its handler."""

    route: Route
    delivery: Delivery
    topic: str
    sender: Sender | None


def device_route(
    topic: Topic[M],
    handler: Callable[[str, M], Awaitable[None]],
    *,
    group: str | None = None,
    sender: str = "client_id",
    note: NoteFlaws | None = None,
) -> Route:
    """Return a route that decodes a device's message and calls `handler(client_id, message)`.

    `sender` is the name in the topic that identifies the device; `note` gets what was left out of the message.
    """

    async def undated(client_id: str, message: M, _: datetime) -> None:
        await handler(client_id, message)

    return dated_route(topic, undated, group=group, sender=sender, note=note)


def dated_route(
    topic: Topic[M],
    handler: Callable[[str, M, datetime], Awaitable[None]],
    *,
    group: str | None = None,
    sender: str = "client_id",
    note: NoteFlaws | None = None,
) -> Route:
    """Return a `device_route` whose handler also gets when the message was received: it may have waited since."""

    async def handle(delivery: Delivery) -> None:
        message, flaws = topic.read(delivery.payload)
        await handler(delivery.names[sender], message, delivery.received_at)
        if note is not None:
            await note(delivery.names[sender], topic, flaws)

    return Route(topic, handle, group)


@dataclass(slots=True)
class Dispatcher:
    """Queues messages, and calls their handlers while `run` runs."""

    routes: list[Route] = field(default_factory=list)
    admission: AdmissionControl = field(default_factory=AdmissionControl)
    _queues: dict[Hashable, deque[Waiting]] = field(default_factory=dict)
    _ready: asyncio.PriorityQueue[tuple[bool, int, Hashable]] = field(default_factory=asyncio.PriorityQueue)
    _numbers: Iterator[int] = field(default_factory=count)
    _deferred: dict[Sender, Waiting] = field(default_factory=dict)

    def __len__(self) -> int:
        return sum(map(len, self._queues.values()))

    async def run(self, name: str) -> None:
        """Handle messages until cancelled."""
        async with asyncio.TaskGroup() as tasks:
            for number in range(WORKERS):
                tasks.create_task(self._work(), name=f"{name}:worker-{number}")

    def take(self, message: aiomqtt.Message) -> None:
        """Queue a message for its handler, or drop it if there are too many."""
        topic = str(message.topic)
        for route in self.routes:
            names = route.topic.match(topic)
            if names is not None:
                if route.wanted(names):
                    sender = self.admission.sender(route.topic, names)
                    self._admit(Waiting(route, _delivery(names, message), topic, sender))
                return

    def _admit(self, waiting: Waiting) -> None:
        topic, sender, payload = waiting.route.topic, waiting.sender, waiting.delivery.payload
        # An admin gets an answer from the handler; of a device not even that much is stored.
        is_too_large = sender is not None and len(payload) > topic.max_bytes
        now = time.monotonic()
        if not self.admission.admits(topic, sender, 0 if is_too_large else len(payload), now=now):
            if sender is not None and topic.retain and not is_too_large:
                self._defer(sender, waiting, now)
            else:
                self.admission.drop(topic, sender, now=now)
        elif is_too_large:
            self.admission.done(sender, 0)
            _refuse(waiting, topic.too_large(payload))
        else:
            if sender is not None:
                self._deferred.pop(sender, None)
            self._enqueue(waiting)

    def _enqueue(self, waiting: Waiting) -> None:
        queue = _queue_of(waiting)
        if queue in self._queues:
            self._queues[queue].append(waiting)
        else:
            self._queues[queue] = deque([waiting])
            self._make_ready(queue, waiting)

    def _make_ready(self, queue: Hashable, waiting: Waiting) -> None:
        is_limited = waiting.sender is not None
        self._ready.put_nowait((is_limited, next(self._numbers), queue))

    def _defer(self, sender: Sender, waiting: Waiting, now: float) -> None:
        if sender in self._deferred:
            self.admission.drop(waiting.route.topic, sender, now=now)
        else:
            asyncio.get_running_loop().call_later(_DEFER_S, self._retry_deferred, sender)
        self._deferred[sender] = waiting

    def _retry_deferred(self, sender: Sender) -> None:
        waiting = self._deferred.pop(sender, None)
        if waiting is not None:
            self._admit(waiting)

    async def _work(self) -> None:
        while True:
            _, _, queue = await self._ready.get()
            waiting = self._queues[queue].popleft()
            try:
                await _handle(waiting)
            finally:
                self.admission.done(waiting.sender, len(waiting.delivery.payload))
                if self._queues[queue]:
                    self._make_ready(queue, waiting)
                else:
                    del self._queues[queue]


def _queue_of(waiting: Waiting) -> Hashable:
    """Return the key of a message's queue: a device, or one of the queues of an admin or a claim.

    Paced messages do not wait behind those that are stored.
    """
    names = waiting.delivery.names
    if "client_id" in names:
        return names["client_id"], waiting.route.topic.paced
    return names.get("claim_id", names.get("account")), hash(waiting.delivery.payload) % QUEUES


async def _handle(waiting: Waiting) -> None:
    outcome = "handled"
    try:
        await _handle_patiently(waiting.route, waiting.delivery, waiting.topic)
    except MessageRefusedError as error:
        _refuse(waiting, error)
        return
    except FleetError as error:
        outcome = "failed"
        log.warning("message.failed", topic=waiting.topic, code=error.code, reason=error.message)
    except Exception:
        outcome = "crashed"
        log.exception("message.crashed", topic=waiting.topic)
    metrics.MESSAGES.labels(waiting.route.topic.template, outcome).inc()


def _refuse(waiting: Waiting, error: MessageRefusedError) -> None:
    log.warning("message.refused", topic=waiting.topic, reason=error.message)
    metrics.MESSAGES.labels(waiting.route.topic.template, "refused").inc()


async def _handle_patiently(route: Route, delivery: Delivery, topic: str) -> None:
    """Handle a message, and retry it during an outage; its queue waits, and so does the broker."""
    give_up_at = asyncio.get_running_loop().time() + _PATIENCE_S
    while True:
        try:
            return await route.handle(delivery)
        except UnavailableError as error:
            if asyncio.get_running_loop().time() > give_up_at:
                raise
            log.warning("message.deferred", topic=topic, reason=error.message)
        await asyncio.sleep(_RETRY_S)


def _delivery(names: dict[str, str], message: aiomqtt.Message) -> Delivery:
    payload = message.payload if isinstance(message.payload, bytes) else b""
    return Delivery(
        names,
        payload,
        getattr(message.properties, "ResponseTopic", None),
        getattr(message.properties, "CorrelationData", None),
        bool(message.retain),
    )
