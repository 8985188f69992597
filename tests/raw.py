"""A device that does what a test tells it, and nothing of itself: for wrong, late, double and foreign messages."""

from __future__ import annotations

import asyncio
from contextlib import AsyncExitStack
from types import TracebackType
from typing import Self, TypeVar

import aiomqtt
from pydantic import BaseModel

from shared import topics
from shared.admin import Package
from shared.topics import Topic
from tests.credentials import device_client

M = TypeVar("M", bound=BaseModel)
N = TypeVar("N", bound=BaseModel)
PATIENCE_S = 30.0
RESEND_S = 0.5


class RawDevice:
    """A bare connection with a device's credentials, subscribed to all that it may read."""

    def __init__(self, package: Package, *, session_s: int = 0) -> None:
        self.client_id = package.client_id
        self.client = device_client(package, session_s=session_s)
        self._messages: list[tuple[str, bytes]] = []
        self._news = asyncio.Condition()
        self._stack = AsyncExitStack()

    async def __aenter__(self) -> Self:
        await self._stack.enter_async_context(self.client)
        await self.client.subscribe(f"{topics.PREFIX}/d/{self.client_id}/down/#", qos=1)
        task = asyncio.create_task(self._read(), name=self.client_id)
        self._stack.callback(task.cancel)
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self._stack.aclose()

    async def send(self, topic: Topic[M], message: M) -> None:
        """Publish a message of the protocol."""
        await self.client.publish(topic.of(client_id=self.client_id), topic.encode(message), qos=1)

    async def receive(self, topic: Topic[M]) -> M:
        """Wait for the next message of a topic."""
        async with asyncio.timeout(PATIENCE_S), self._news:
            while True:
                for number, (address, payload) in enumerate(self._messages):
                    if topic.match(address) is not None:
                        del self._messages[number]
                        return topic.decode(payload)
                await self._news.wait()

    async def ask(self, topic: Topic[M], message: M, answer: Topic[N]) -> N:
        """Send a message again and again until it is answered."""
        receiving = asyncio.ensure_future(self.receive(answer))
        while not receiving.done():
            await self.send(topic, message)
            await asyncio.wait([receiving], timeout=RESEND_S)
        return receiving.result()

    def received(self, topic: Topic[M]) -> bool:
        """Say whether a message of a topic has come that nobody asked for."""
        return any(topic.match(address) is not None for address, _ in self._messages)

    async def _read(self) -> None:
        try:
            async for message in self.client.messages:
                payload = message.payload if isinstance(message.payload, bytes) else b""
                async with self._news:
                    self._messages.append((str(message.topic), payload))
                    self._news.notify_all()
        except aiomqtt.MqttError:
            return  # dropped by the broker, as a switch does
