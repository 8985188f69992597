from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import cast

import aiomqtt
import pytest
from paho.mqtt.packettypes import PacketTypes
from paho.mqtt.properties import Properties
from prometheus_client import REGISTRY
from pydantic import SecretStr

from shared import topics
from shared.errors import ConflictError, UnavailableError
from shared.messages import Log, LogLevel, LogLine
from shared.mqtt import LANE_LENGTH, LANES, Account, Connection, Delivery, Route, device_route

PATIENCE_S = 5
Handler = Callable[[str, Log], Awaitable[None]]


def connection() -> Connection:
    return Connection(Account("127.0.0.1", 1, "svc-test", SecretStr("x")), "test")


def said(text: str) -> Log:
    return Log(boot=1, first=0, lines=[LogLine(level=LogLevel.INFO, message=text)])


def message(client_id: str, text: str, properties: Properties | None = None) -> aiomqtt.Message:
    payload = topics.LOG.encode(said(text))
    return aiomqtt.Message(topics.LOG.of(client_id=client_id), payload, 1, False, 1, properties)  # noqa: FBT003


@dataclass
class Received:
    """The part of a client that the reader uses, with messages that have come already."""

    queue: list[aiomqtt.Message]

    @property
    async def messages(self) -> AsyncIterator[aiomqtt.Message]:
        for received in self.queue:
            yield received


async def read(reader: Connection, *received: aiomqtt.Message) -> None:
    async with asyncio.timeout(PATIENCE_S):
        await reader._read(cast("aiomqtt.Client", Received(list(received))))


@asynccontextmanager
async def working(worker: Connection) -> AsyncIterator[None]:
    """Handle what lies in the lanes during the block."""
    async with asyncio.timeout(PATIENCE_S), asyncio.TaskGroup() as tasks:
        lanes = [tasks.create_task(worker._work(lane)) for lane in worker._lanes]
        yield
        for lane in lanes:
            lane.cancel()


def in_other_lanes(first: str) -> str:
    """A device whose messages go another way than those of the first."""
    return next(name for name in map(str, range(1000)) if hash(name) % LANES != hash(first) % LANES)


def handled(outcome: str) -> float:
    labels = {"topic": topics.LOG.template, "outcome": outcome}
    return REGISTRY.get_sample_value("mdm_messages_total", labels) or 0


async def ignore(_: Delivery) -> None:
    pass


def test_replicas_of_a_group_share_a_subscription() -> None:
    assert Route(topics.LOG, ignore).subscription == "mdm/v1/d/+/up/log"
    assert Route(topics.LOG, ignore, "registry").subscription == "$share/registry/mdm/v1/d/+/up/log"


async def test_a_device_route_hands_over_the_device_and_its_message() -> None:
    seen: list[tuple[str, Log]] = []

    async def on_log(client_id: str, line: Log) -> None:
        seen.append((client_id, line))

    route = device_route(topics.LOG, on_log, group="registry")
    await route.handle(Delivery({"client_id": "one"}, topics.LOG.encode(said("hello"))))

    assert seen == [("one", said("hello"))]
    assert route.group == "registry"


async def test_messages_of_one_device_are_handled_one_by_one_in_their_order() -> None:
    busy: set[str] = set()
    seen: dict[str, list[int]] = {"one": [], "two": [], "three": []}
    done = asyncio.Event()

    async def on_log(client_id: str, line: Log) -> None:
        assert client_id not in busy
        busy.add(client_id)
        await asyncio.sleep(0)
        busy.remove(client_id)
        seen[client_id].append(int(line.lines[0].message))
        if sum(map(len, seen.values())) == 3 * 20:
            done.set()

    one = connection()
    await one.listen(device_route(topics.LOG, on_log))
    await read(one, *(message(name, str(number)) for number in range(20) for name in seen))
    async with working(one):
        await done.wait()

    assert list(seen.values()) == [list(range(20))] * 3


async def test_a_slow_device_does_not_hold_up_another() -> None:
    slow, fast = "slow", in_other_lanes("slow")
    fast_is_done, slow_is_done = asyncio.Event(), asyncio.Event()

    async def on_log(client_id: str, _: Log) -> None:
        if client_id == slow:
            await fast_is_done.wait()
            slow_is_done.set()
        else:
            fast_is_done.set()

    one = connection()
    await one.listen(device_route(topics.LOG, on_log))
    await read(one, message(slow, "first"), message(fast, "second"))
    async with working(one):
        await slow_is_done.wait()


async def test_a_flood_of_one_device_makes_the_reader_wait() -> None:
    one = connection()
    await one.listen(Route(topics.LOG, ignore))
    await read(one, *(message("one", str(number)) for number in range(LANE_LENGTH)))

    one_more = asyncio.ensure_future(read(one, message("one", "more")))
    done, _ = await asyncio.wait([one_more], timeout=0.05)
    assert not done

    async with working(one):
        await one_more


@pytest.mark.parametrize(
    ("error", "outcome"), [(ConflictError("no"), "failed"), (RuntimeError("a mistake of ours"), "crashed")]
)
async def test_a_handler_that_fails_is_counted_and_the_next_message_is_handled(
    error: Exception, outcome: str
) -> None:
    done = asyncio.Event()

    async def on_log(_: str, line: Log) -> None:
        if line.lines[0].message == "bad":
            raise error
        done.set()

    one, before = connection(), handled(outcome)
    await one.listen(device_route(topics.LOG, on_log))
    await read(one, message("one", "bad"), message("one", "good"))
    async with working(one):
        await done.wait()

    assert handled(outcome) == before + 1


async def test_a_message_that_can_not_be_read_is_counted_and_the_next_is_handled() -> None:
    done = asyncio.Event()

    async def on_log(_: str, line: Log) -> None:
        assert line.lines[0].message == "good"
        done.set()

    one, before = connection(), handled("refused")
    await one.listen(device_route(topics.LOG, on_log))
    bad = aiomqtt.Message(topics.LOG.of(client_id="one"), b"{", 1, False, 1, None)  # noqa: FBT003
    await read(one, bad, message("one", "good"))
    async with working(one):
        await done.wait()

    assert handled("refused") == before + 1


async def test_a_message_that_nobody_listens_to_is_left_out() -> None:
    one = connection()
    await one.listen(Route(topics.STATUS, ignore))
    await read(one, message("one", "hello"))

    assert [lane.qsize() for lane in one._lanes] == [0] * LANES


async def test_what_mqtt_5_says_of_a_reply_is_handed_over() -> None:
    properties = Properties(PacketTypes.PUBLISH)  # type: ignore[no-untyped-call]
    properties.ResponseTopic = "replies/here"
    properties.CorrelationData = b"\x01"
    done: asyncio.Queue[Delivery] = asyncio.Queue()
    one = connection()
    await one.listen(Route(topics.LOG, done.put))
    await read(one, message("one", "hello", properties), message("one", "hello"))
    async with working(one):
        with_reply, without = await done.get(), await done.get()

    assert (with_reply.response_topic, with_reply.correlation_data) == ("replies/here", b"\x01")
    assert (without.response_topic, without.correlation_data) == (None, None)
    assert with_reply.names == {"client_id": "one"}


async def test_nothing_is_published_without_a_broker() -> None:
    with pytest.raises(UnavailableError, match="the broker can not be reached"):
        await connection().send(topics.LOG, said("hello"), client_id="one")
