"""A device that does what a test tells it, and nothing of itself: for wrong, late, double and foreign messages."""

from __future__ import annotations

import asyncio
from contextlib import AsyncExitStack
from types import TracebackType
from typing import Self, TypeVar
from uuid import UUID

import aiomqtt
from joserfc.jwk import OKPKey
from pydantic import BaseModel, SecretStr

from dev.credentials import claim_client, device_client
from dev.waiting import PATIENCE_S
from shared import crypto
from shared.protocol import topics
from shared.protocol.admin import ClaimPackage, Package
from shared.protocol.messages import (
    ClaimAnswer,
    ClaimOutcome,
    ClaimRequest,
    Config,
    Packed,
    RotationRequest,
    RotationStored,
    Status,
)
from shared.protocol.topics import Topic

M = TypeVar("M", bound=BaseModel | Packed | bytes)
N = TypeVar("N", bound=BaseModel | Packed | bytes)
P = TypeVar("P")
RESEND_S = 0.5


class RawClient:
    """A bare connection that has subscribed to `wanted`; `names` stand in the topics of what it sends."""

    def __init__(self, client: aiomqtt.Client, wanted: str, **names: str) -> None:
        self.client = client
        self._wanted = wanted
        self._names = names
        self._messages: list[tuple[str, bytes]] = []
        self._news = asyncio.Condition()
        self._stack = AsyncExitStack()

    async def __aenter__(self) -> Self:
        await self._stack.enter_async_context(self.client)
        await self.client.subscribe(self._wanted, qos=1)
        self.reading = asyncio.create_task(self._read(), name=self._wanted)
        self._stack.callback(self.reading.cancel)
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self._stack.aclose()

    async def send(self, topic: Topic[M], message: M) -> None:
        """Publish a message of the protocol."""
        await self.client.publish(topic.of(**self._names), topic.encode(message), qos=1)

    async def receive(self, topic: Topic[M]) -> M:
        """Wait for the next message of a topic."""
        async with asyncio.timeout(PATIENCE_S):
            return await self.wait(topic)

    async def wait(self, topic: Topic[P]) -> P:
        """Wait for the next message of a topic, as long as it takes."""
        async with self._news:
            while True:
                for number, (address, payload) in enumerate(self._messages):
                    if topic.match(address) is not None:
                        del self._messages[number]
                        return topic.decode(payload)
                await self._news.wait()

    async def ask(self, topic: Topic[M], message: M, answer: Topic[N]) -> N:
        """Send a message again and again until it is answered."""
        receiving = asyncio.ensure_future(self._answer(message, answer))
        while not receiving.done():
            await self.send(topic, message)
            await asyncio.wait([receiving], timeout=RESEND_S)
        return receiving.result()

    async def _answer(self, question: object, answer: Topic[N]) -> N:
        """Wait for the answer, not for what comes by itself, as after a change, or answers another question."""
        asked = getattr(question, "request_id", None)
        while True:
            found = await self.receive(answer)
            if asked is None or getattr(found, "request_id", asked) == asked:
                return found

    @property
    def addresses(self) -> set[str]:
        """The topics of all that has come and was not asked for."""
        return {address for address, _ in self._messages}

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


class RawDevice(RawClient):
    """A bare connection with a device's credentials, subscribed to all that it may read.

    With `online` it says so at its begin, and nothing when it ends.
    """

    def __init__(self, package: Package, *, session_s: int = 0, online: bool = False) -> None:
        self.client_id = package.client_id
        self._says_online = online
        wanted = f"{topics.PREFIX}/d/{package.client_id}/down/#"
        super().__init__(device_client(package, session_s=session_s), wanted, client_id=package.client_id)

    async def __aenter__(self) -> Self:
        await super().__aenter__()
        if self._says_online:
            await self.send(topics.STATUS, Status(online=True))
        return self

    async def pushed(self, version: int) -> Config:
        """Wait for a version of the configuration; earlier ones may be pushed after a device has connected."""
        while (found := await self.receive(topics.CONFIG)).version < version:
            pass
        return found

    async def fetch_secret(self) -> tuple[UUID, SecretStr]:
        """Wait for an offer, ask for its secret, and return both."""
        rotation_id = (await self.receive(topics.ROTATION_OFFER)).rotation_id
        await self.send(topics.ROTATION_REQUEST, RotationRequest(rotation_id=rotation_id))
        return rotation_id, SecretStr((await self.receive(topics.ROTATION_SECRET)).secret or "")

    async def store_secret(self) -> SecretStr:
        """Go on until it is proven that the new secret is stored, and return it."""
        rotation_id, secret = await self.fetch_secret()
        proof = crypto.proof(secret, "stored", rotation_id)
        await self.send(topics.ROTATION_STORED, RotationStored(rotation_id=rotation_id, proof=proof))
        return secret


class RawMachine(RawClient):
    """A bare connection of a machine with a claim's account and a key of its own."""

    def __init__(self, claim: ClaimPackage, uid: str, *, key: OKPKey | None = None) -> None:
        self.key = key or OKPKey.generate_key("X25519")
        self.request = ClaimRequest(uid=uid, public_key=crypto.public_half(self.key))
        names = {"claim_id": claim.account, "uid": uid}
        super().__init__(claim_client(claim, uid), topics.CLAIM_ANSWER.of(**names), **names)

    async def claim(self) -> ClaimAnswer:
        """Ask once for an identity and return the answer."""
        await self.send(topics.CLAIM_REQUEST, self.request)
        return await self.receive(topics.CLAIM_ANSWER)

    async def granted(self) -> Package:
        """Ask once for an identity and return it."""
        return self.opened(await self.claim())

    def opened(self, answer: ClaimAnswer) -> Package:
        """Return the identity in an answer."""
        assert answer.outcome is ClaimOutcome.GRANTED, answer.reason
        assert answer.jwe is not None
        return Package.model_validate_json(crypto.unseal(answer.jwe, self.key).get_secret_value())
