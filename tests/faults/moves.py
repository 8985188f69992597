"""A device that moves to another connection profile: who offers it, who disturbs it, and how it is looked at."""

from __future__ import annotations

import asyncio
import contextlib
from collections import Counter
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager, suppress
from contextvars import copy_context
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Final, TypeVar
from uuid import UUID, uuid4

import aiomqtt
from paho.mqtt.packettypes import PacketTypes
from paho.mqtt.properties import Properties

from dev.crash_injection import CrashPoint
from dev.credentials import account_client
from dev.fleet import PowerCutError
from dev.stack import Endpoints
from device import connection, durable
from device.agent import Agent
from device.connection import ConnectionSlots
from device.connection_store import FILE_NAME, ConnectionStore
from device.options import Hooks, Options
from shared.protocol import messages, topics
from shared.protocol.admin import Package
from shared.protocol.messages import ConnectionOffer, ConnectionProfile, ConnectionState, WifiNetwork
from shared.protocol.topics import Topic
from tests.faults.roads import Road

M = TypeVar("M", bound=messages.Message)

AGAIN_S: Final = 1.5
"""After which a profile is offered again; an offer expires before."""
PATIENCE_S: Final = 60.0
_PAUSE_S: Final = 0.3
OPTIONS: Final = Options(
    retry_s=0.5,
    backoff_min_s=0.1,
    backoff_max_s=0.4,
    answer_timeout_s=3,
    fallback_after_s=4,
    silent_after_s=PATIENCE_S,
    sweep_s=1,
    fallback_starts=2,
)


def profile_of(package: Package, **changes: object) -> ConnectionProfile:
    """Return the package's profile with changes."""
    names = ConnectionProfile.model_fields.keys() & Package.model_fields.keys()
    recovery_port = None if package.recovery is None else package.recovery.port
    facts = package.model_dump(include=names) | {"recovery_port": recovery_port}
    return ConnectionProfile.model_validate({**facts, **changes})


@dataclass(slots=True)
class Offers:
    """Wants profiles of devices and offers them, as the registry does, and knows what the devices report."""

    client: aiomqtt.Client
    wanted: dict[str, ConnectionOffer] = field(default_factory=dict)
    reported: dict[str, ConnectionState] = field(default_factory=dict)
    done: set[UUID] = field(default_factory=set)
    _offered_at: dict[str, float] = field(default_factory=dict)
    _news: asyncio.Condition = field(default_factory=asyncio.Condition)

    async def until(self, client_id: str, holds: Callable[[ConnectionState], object]) -> None:
        """Wait until a condition holds for a device's report."""
        async with asyncio.timeout(PATIENCE_S), self._news:
            await self._news.wait_for(lambda: client_id in self.reported and holds(self.reported[client_id]))

    def offered(self, client_id: str) -> str | None:
        """Return the id of the profile that is wanted of a device."""
        return self.wanted[client_id].connection_id if client_id in self.wanted else None

    async def reach(self, client_id: str) -> None:
        """Send a command until the device has executed it."""
        command = messages.Command(
            command_id=uuid4(), name="identify", expires_at=datetime.now(UTC) + timedelta(hours=1)
        )
        async with asyncio.timeout(PATIENCE_S):
            while command.command_id not in self.done:
                await self.send(topics.COMMAND, client_id, command)
                with suppress(TimeoutError):
                    async with asyncio.timeout(_PAUSE_S), self._news:
                        await self._news.wait_for(lambda: command.command_id in self.done)

    async def send(self, topic: Topic[M], client_id: str, message: M) -> None:
        """Publish a message to a device."""
        expiry = Properties(PacketTypes.PUBLISH)  # type: ignore[no-untyped-call]
        expiry.MessageExpiryInterval = 5
        address, payload = topic.of(client_id=client_id), topic.encode(message)
        await self.client.publish(address, payload, qos=1, properties=expiry)

    async def listen(self) -> None:
        """Answer the devices' requests until cancelled."""
        async for message in self.client.messages:
            topic, payload = message.topic.value, bytes(message.payload)
            client_id = topic.split("/")[3]
            async with self._news:
                if topics.COMMAND_RESULT.match(topic) is not None:
                    self.done.add(topics.COMMAND_RESULT.decode(payload).command_id)
                elif (state := topics.CONFIG_GET.decode(payload).connection) is not None:
                    self.reported[client_id] = state
                    await self._offer(client_id, state)
                self._news.notify_all()

    async def _offer(self, client_id: str, state: ConnectionState) -> None:
        offer = self.wanted.get(client_id)
        now = asyncio.get_running_loop().time()
        if offer is None or state.in_use == offer.connection_id:
            return
        if now > self._offered_at.get(client_id, 0.0) + AGAIN_S:
            self._offered_at[client_id] = now
            await self.send(topics.CONNECTION, client_id, offer)


@asynccontextmanager
async def offering(endpoints: Endpoints) -> AsyncIterator[Offers]:
    """Offer profiles by an account that may write to devices, until the block ends."""
    async with account_client(endpoints, "svc-registry") as client:
        offers = Offers(client)
        for topic in (topics.CONFIG_GET, topics.COMMAND_RESULT):
            await client.subscribe(topic.filter, qos=1)
        listening = asyncio.create_task(offers.listen(), name="offers")
        try:
            yield offers
        finally:
            listening.cancel()
            with suppress(asyncio.CancelledError):
                await listening


@dataclass(slots=True)
class MovingDevice:
    """A device's flash and power: it runs, dies at one step, and runs again."""

    package: Package
    state: Path
    joins: Callable[[WifiNetwork], bool]
    cut_at: CrashPoint | None = None
    steps: list[str] = field(default_factory=list)
    events: Counter[str] = field(default_factory=Counter)
    was_cut: bool = False
    _task: asyncio.Task[None] | None = None

    async def on(self) -> None:
        """Give it power, again after each power cut."""
        context = copy_context()
        context.run(lambda: durable.WAITS.set(False))
        self._task = asyncio.create_task(self._live(), name=self.package.client_id, context=context)

    async def off(self) -> None:
        """Cut its power; AssertionError if it has ended by itself."""
        assert self._task is not None
        self._task.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await self._task

    async def _live(self) -> None:
        while True:
            hooks = Hooks(fault=self._reach, on_event=self._note, joins=self.joins)
            with suppress(PowerCutError):
                await Agent(self.package, self.state, options=OPTIONS, hooks=hooks).run()

    @property
    def slots(self) -> ConnectionSlots:
        """The profiles in its flash."""
        return ConnectionStore(self.state, connection.of_package(self.package)).slots

    def forget(self) -> None:
        """Let its flash have no profile."""
        (self.state / FILE_NAME).unlink(missing_ok=True)

    def _note(self, event: str, _: Mapping[str, object]) -> None:
        self.events[event] += 1

    def _reach(self, point: str) -> None:
        self.steps.append(point)
        if self.cut_at is None or self.was_cut or point != self.cut_at.step:
            return
        if self.steps.count(point) == self.cut_at.nth:
            self.was_cut = True
            raise PowerCutError


@dataclass(frozen=True, slots=True)
class Move:
    """One device that is to move from a road to another one."""

    device: MovingDevice
    offers: Offers
    old: Road
    new: Road
    old_id: str
    new_id: str

    @property
    def client_id(self) -> str:
        return self.device.package.client_id

    async def done(self) -> None:
        """Wait until the device reports that it has moved."""
        await self.offers.until(self.client_id, lambda it: it.first == it.in_use == self.new_id)

    async def refused(self) -> None:
        """Wait until the device reports over the old road that it has not."""

        def is_back(state: ConnectionState) -> bool:
            refused = state.refused
            return state.in_use == self.old_id and refused is not None and refused.connection_id == self.new_id

        await self.offers.until(self.client_id, is_back)


async def kept(move: Move) -> None:
    await move.done()


async def old_gone(move: Move) -> None:
    await move.done()
    await move.old.close()
    await move.device.off()
    await move.device.on()


async def old_back(move: Move) -> None:
    await both_gone(move)
    await move.old.open()
    await move.offers.until(move.client_id, lambda it: it.in_use == move.old_id)


async def new_back(move: Move) -> None:
    await both_gone(move)
    await move.new.open()
    await move.offers.until(move.client_id, lambda it: it.in_use == move.new_id)


async def both_gone(move: Move) -> None:
    """Let the device find neither broker, until each of them has had its turn."""
    await move.done()
    move.offers.wanted.pop(move.client_id)
    for road in (move.old, move.new):
        await road.close()
    move.offers.reported.pop(move.client_id, None)
    turns = move.device.events["connection.turned"]
    async with asyncio.timeout(PATIENCE_S):
        while move.device.events["connection.turned"] < turns + 2:  # noqa: ASYNC110 - a counter has no event
            await asyncio.sleep(0.1)


async def failed(move: Move) -> None:
    await move.refused()
