from __future__ import annotations

import asyncio
import re
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass

import aiomqtt
import pytest
import structlog
from paho.mqtt.packettypes import PacketTypes
from paho.mqtt.properties import Properties
from prometheus_client import REGISTRY
from pydantic import SecretStr

from shared.errors import ConflictError, UnavailableError
from shared.mqtt import admission
from shared.mqtt import dispatcher as dispatcher_module
from shared.mqtt.client import Client, entered
from shared.mqtt.connection import Account, Connection, Delivery, Route, device_route
from shared.mqtt.dispatcher import WORKERS, Dispatcher
from shared.mqtt.rates import Rate
from shared.protocol import admin, topics
from shared.protocol.messages import Log, LogLevel, LogLine, Status

PATIENCE_S = 5
Handler = Callable[[str, Log], Awaitable[None]]


CONNACK = bytes([0x20, 3, 0, 0, 0])
"""Of MQTT 5: no session, success, no properties."""


def connection() -> Connection:
    return Connection(Account("127.0.0.1", 1, "svc-test", SecretStr("x")), "test")


def said(text: str) -> Log:
    return Log(boot=1, first=0, lines=[LogLine(level=LogLevel.INFO, message=text)])


def message(client_id: str, text: str, properties: Properties | None = None) -> aiomqtt.Message:
    payload = topics.LOG.encode(said(text))
    return aiomqtt.Message(topics.LOG.of(client_id=client_id), payload, 1, False, 1, properties)  # noqa: FBT003


def dispatcher(*routes: Route, rate: Rate | None = None) -> Dispatcher:
    made = Dispatcher(list(routes))
    if rate is not None:
        made.admission.limit("client_id", rate)
    return made


def read(reader: Dispatcher, *received: aiomqtt.Message) -> None:
    for each in received:
        reader.take(each)


@asynccontextmanager
async def working(worker: Dispatcher) -> AsyncIterator[None]:
    """Handle what waits in the queues during the block."""
    async with asyncio.timeout(PATIENCE_S), asyncio.TaskGroup() as tasks:
        running = tasks.create_task(worker.run("test"))
        yield
        running.cancel()


@dataclass
class Clock:
    """A clock that a test sets: a busy machine may stop a process for longer than a bucket takes to fill."""

    now: float = 0.0

    def monotonic(self) -> float:
        return self.now


def stopped_clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    clock = Clock()
    monkeypatch.setattr(dispatcher_module, "time", clock)
    return clock


def handled(outcome: str) -> float:
    labels = {"topic": topics.LOG.template, "outcome": outcome}
    return REGISTRY.get_sample_value("mdm_messages_total", labels) or 0


async def ignore(_: Delivery) -> None:
    pass


async def test_a_service_that_gets_no_token_tries_again(unused_tcp_port: int) -> None:
    token_url = f"http://127.0.0.1:{unused_tcp_port}/token"
    account = Account("127.0.0.1", 1, "svc-test", SecretStr("x"), token_url=token_url)
    tried_again = asyncio.Event()

    def note(_logger: object, _name: str, event: structlog.typing.EventDict) -> structlog.typing.EventDict:
        reasons.append((event["event"], event["error"]))
        if len(reasons) == 2:
            tried_again.set()
        raise structlog.DropEvent

    reasons: list[tuple[str, str]] = []
    structlog.configure(processors=[note])
    try:
        async with asyncio.timeout(PATIENCE_S), Connection(account, "test").running():
            await tried_again.wait()
    finally:
        structlog.reset_defaults()
    assert reasons == [("mqtt.lost", "Keycloak does not answer (token); retry")] * 2


def test_replicas_of_a_group_share_a_subscription() -> None:
    ours, others = SecretStr("ours"), SecretStr("another")
    assert Route(topics.LOG, ignore).subscription(ours) == "mdm/v1/d/+/up/log"
    shared = Route(topics.LOG, ignore, "registry").subscription(ours)
    assert re.fullmatch(r"\$share/registry-[0-9a-f]{32}/mdm/v1/d/\+/up/log", shared)
    assert Route(topics.LOG, ignore, "registry").subscription(ours) == shared
    assert Route(topics.LOG, ignore, "registry").subscription(others) != shared


async def test_a_device_route_hands_over_the_device_and_its_message() -> None:
    seen: list[tuple[str, Log]] = []

    async def on_log(client_id: str, line: Log) -> None:
        seen.append((client_id, line))

    route = device_route(topics.LOG, on_log, group="registry")
    await route.handle(Delivery({"client_id": "one"}, topics.LOG.encode(said("hello"))))

    assert seen == [("one", said("hello"))]
    assert route.group == "registry"


async def test_what_a_route_does_not_want_is_ignored_and_passed_to_no_other() -> None:
    waited_for = {"one"}
    ours = Route(topics.LOG, ignore, wanted=lambda names: names["client_id"] in waited_for)
    reader = dispatcher(ours, Route(topics.LOG, ignore))
    read(reader, message("another", "nobody waits for it"), message("one", "first"))
    assert len(reader) == 1
    waited_for.add("another")
    read(reader, message("another", "now somebody does"))
    assert len(reader) == 2


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

    one = dispatcher(device_route(topics.LOG, on_log))
    read(one, *(message(name, str(number)) for number in range(20) for name in seen))
    async with working(one):
        await done.wait()

    assert list(seen.values()) == [list(range(20))] * 3


async def test_a_slow_device_does_not_hold_up_another() -> None:
    slow, fast = "slow", "fast"
    fast_is_done, slow_is_done = asyncio.Event(), asyncio.Event()

    async def on_log(client_id: str, _: Log) -> None:
        if client_id == slow:
            await fast_is_done.wait()
            slow_is_done.set()
        else:
            fast_is_done.set()

    one = dispatcher(device_route(topics.LOG, on_log))
    read(one, message(slow, "first"), message(fast, "second"))
    async with working(one):
        await slow_is_done.wait()


async def test_a_device_does_not_wait_behind_all_that_others_have_said() -> None:
    seen: list[str] = []
    done = asyncio.Event()

    async def on_log(client_id: str, _: Log) -> None:
        seen.append(client_id)
        await asyncio.sleep(0)
        if client_id == "quiet":
            done.set()

    floods = [str(number) for number in range(2 * WORKERS)]
    one = dispatcher(device_route(topics.LOG, on_log), rate=Rate(per_s=0.001, burst=50))
    read(one, *(message(name, str(number)) for number in range(50) for name in floods), message("quiet", "hello"))
    async with working(one):
        await done.wait()
    assert len(seen) <= 3 * len(floods)


async def test_an_admin_does_not_wait_behind_devices() -> None:
    seen: list[str] = []
    answered = asyncio.Event()

    async def on_log(client_id: str, _: Log) -> None:
        seen.append(client_id)
        await asyncio.sleep(0)

    async def on_request(_: Delivery) -> None:
        answered.set()

    request = admin.DEVICE_LIST.topic
    one = dispatcher(device_route(topics.LOG, on_log), Route(request, on_request), rate=Rate(per_s=0.001, burst=1))
    read(one, *(message(str(number), "hello") for number in range(10 * WORKERS)))
    read(one, aiomqtt.Message(request.of(account="ada"), b"{}", 1, False, 1, None))  # noqa: FBT003
    async with working(one):
        await answered.wait()
        assert len(seen) <= WORKERS


def test_a_flood_of_one_device_is_dropped_and_takes_nothing_from_another() -> None:
    one, before = dispatcher(Route(topics.LOG, ignore), rate=Rate(per_s=0.001, burst=10)), handled("dropped")
    read(one, *(message("one", str(number)) for number in range(1000)))
    assert (len(one), handled("dropped") - before) == (10, 990)

    read(one, message("two", "hello"))
    assert len(one) == 11


def test_a_flood_of_one_topic_takes_nothing_from_another_of_the_device() -> None:
    one = dispatcher(
        Route(topics.LOG, ignore), Route(topics.ROTATION_ACK, ignore), rate=Rate(per_s=0.001, burst=10)
    )
    read(one, *(message("one", str(number)) for number in range(1000)))
    ack = aiomqtt.Message(topics.ROTATION_ACK.of(client_id="one"), b"{}", 1, False, 1, None)  # noqa: FBT003
    read(one, ack)
    assert len(one) == 11


def test_all_machines_of_a_claim_have_one_rate() -> None:
    one = Dispatcher([Route(topics.CLAIM_REQUEST, ignore)])
    one.admission.limit("claim_id", Rate(per_s=0.001, burst=10))
    for number in range(100):
        for claim in ("claim-one", "claim-two"):
            address = topics.CLAIM_REQUEST.of(claim_id=claim)
            read(one, aiomqtt.Message(address, str(number).encode(), 1, False, 1, None))  # noqa: FBT003
    assert len(one) == 20


async def test_what_is_paced_has_a_bound_and_no_rate() -> None:
    seen: asyncio.Queue[Delivery] = asyncio.Queue()
    one = dispatcher(Route(topics.FIRMWARE_CHUNK, seen.put), rate=Rate(per_s=0.001, burst=10))
    request = aiomqtt.Message(topics.FIRMWARE_CHUNK.of(client_id="one"), b"{}", 1, False, 1, None)  # noqa: FBT003
    for _ in range(3):
        read(one, *[request] * 30)
        assert len(one) == 10
        async with working(one):
            for _ in range(10):
                await seen.get()


async def test_what_is_paced_does_not_wait_behind_what_else_a_device_says() -> None:
    asked = asyncio.Event()

    async def on_report(_: Delivery) -> None:
        await asked.wait()

    async def on_chunk(_: Delivery) -> None:
        asked.set()

    one = dispatcher(Route(topics.FIRMWARE_REPORT, on_report), Route(topics.FIRMWARE_CHUNK, on_chunk))
    for topic in (topics.FIRMWARE_REPORT, topics.FIRMWARE_REPORT, topics.FIRMWARE_CHUNK):
        read(one, aiomqtt.Message(topic.of(client_id="one"), b"{}", 1, False, 1, None))  # noqa: FBT003
    async with working(one):
        await asked.wait()


async def test_not_more_of_a_device_waits_than_comes_at_once_however_slowly_it_is_handled() -> None:
    seen: asyncio.Queue[Delivery] = asyncio.Queue()
    one = dispatcher(Route(topics.LOG, seen.put), rate=Rate(per_s=1e9, burst=10))
    read(one, *(message("one", str(number)) for number in range(1000)))
    assert len(one) == 10
    async with working(one):
        for _ in range(10):
            await seen.get()
    read(one, *(message("one", str(number)) for number in range(1000)))
    assert len(one) == 10


def test_what_waits_of_all_together_has_a_bound(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(admission, "WAITING_MAX", 20)
    one = dispatcher(Route(topics.LOG, ignore))
    read(one, *(message(str(number), "hello") for number in range(30)))
    assert len(one) == 20

    size_bytes = len(topics.LOG.encode(said("hello")))
    monkeypatch.setattr(admission, "WAITING_MAX_BYTES", 3 * size_bytes)
    other = dispatcher(Route(topics.LOG, ignore))
    read(other, *(message(str(number), "hello") for number in range(30)))
    assert len(other) == 3


def test_a_message_that_is_too_large_is_refused_before_it_waits() -> None:
    one = dispatcher(Route(topics.LOG, ignore), rate=Rate(per_s=0.001, burst=10))
    refused, dropped = handled("refused"), handled("dropped")
    address, payload = topics.LOG.of(client_id="one"), bytes(topics.LOG.max_bytes + 1)
    read(one, *(aiomqtt.Message(address, payload, 1, False, 1, None) for _ in range(30)))  # noqa: FBT003
    assert (len(one), handled("refused") - refused, handled("dropped") - dropped) == (0, 10, 20)


async def test_the_newest_of_a_retained_topic_comes_late_instead_of_not_at_all(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    clock = stopped_clock(monkeypatch)
    monkeypatch.setattr(dispatcher_module, "_DEFER_S", 0.01)
    seen: list[Status] = []
    last = asyncio.Event()

    async def on_status(_: str, status: Status) -> None:
        seen.append(status)
        if not status.online:
            last.set()

    one = dispatcher(device_route(topics.STATUS, on_status), rate=Rate(per_s=20, burst=1))
    states = [Status(online=True, rssi_dbm=-number) for number in range(50)]
    address = topics.STATUS.of(client_id="one")
    for state in [*states, Status(online=False)]:
        one.take(aiomqtt.Message(address, topics.STATUS.encode(state), 1, False, 1, None))  # noqa: FBT003
    clock.now += 1  # the bucket fills
    async with working(one):
        await last.wait()
    assert seen == [states[0], Status(online=False)]


async def test_what_was_put_off_does_not_come_after_something_newer(monkeypatch: pytest.MonkeyPatch) -> None:
    clock = stopped_clock(monkeypatch)
    monkeypatch.setattr(dispatcher_module, "_DEFER_S", 0.01)
    seen: asyncio.Queue[Delivery] = asyncio.Queue()
    one = dispatcher(Route(topics.STATUS, seen.put), rate=Rate(per_s=100, burst=1))
    address = topics.STATUS.of(client_id="one")
    old = aiomqtt.Message(address, b"old", 1, False, 1, None)  # noqa: FBT003
    read(one, old, old)
    assert len(one) == 1
    async with working(one):
        await seen.get()
    clock.now += 1  # the bucket fills, and the timer cannot fire before the next message
    read(one, aiomqtt.Message(address, b"new", 1, False, 1, None))  # noqa: FBT003
    assert len(one) == 1
    clock.now += 1  # there would be room for what was put off
    await asyncio.sleep(0.05)
    assert len(one) == 1


def test_all_that_is_dropped_is_one_line_in_the_log_now_and_then() -> None:
    one = dispatcher(Route(topics.LOG, ignore), rate=Rate(per_s=0.001, burst=10))
    with structlog.testing.capture_logs() as lines:
        read(one, *(message("one", str(number)) for number in range(1000)))
    assert [line["event"] for line in lines] == ["messages.dropped"]
    assert lines[0]["worst"] == {f"one {topics.LOG.template}": 1}


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

    one, before = dispatcher(device_route(topics.LOG, on_log)), handled(outcome)
    read(one, message("one", "bad"), message("one", "good"))
    async with working(one):
        await done.wait()

    assert handled(outcome) == before + 1


async def test_a_message_that_cannot_be_read_is_counted_and_the_next_is_handled() -> None:
    done = asyncio.Event()

    async def on_log(_: str, line: Log) -> None:
        assert line.lines[0].message == "good"
        done.set()

    one, before = dispatcher(device_route(topics.LOG, on_log)), handled("refused")
    bad = aiomqtt.Message(topics.LOG.of(client_id="one"), b"{", 1, False, 1, None)  # noqa: FBT003
    read(one, bad, message("one", "good"))
    async with working(one):
        await done.wait()

    assert handled("refused") == before + 1


async def test_a_message_that_nobody_listens_to_is_left_out() -> None:
    one = dispatcher(Route(topics.STATUS, ignore))
    read(one, message("one", "hello"))

    assert len(one) == 0


async def test_what_mqtt_5_says_of_a_reply_is_handed_over() -> None:
    properties = Properties(PacketTypes.PUBLISH)  # type: ignore[no-untyped-call]
    properties.ResponseTopic = "replies/here"
    properties.CorrelationData = b"\x01"
    done: asyncio.Queue[Delivery] = asyncio.Queue()
    one = dispatcher(Route(topics.LOG, done.put))
    read(one, message("one", "hello", properties), message("one", "hello"))
    async with working(one):
        with_reply, without = await done.get(), await done.get()

    assert (with_reply.response_topic, with_reply.correlation_data) == ("replies/here", b"\x01")
    assert (without.response_topic, without.correlation_data) == (None, None)
    assert with_reply.names == {"client_id": "one"}


async def test_nothing_is_published_without_a_broker() -> None:
    with pytest.raises(UnavailableError, match="the broker cannot be reached"):
        await connection().send(topics.LOG, said("hello"), client_id="one")
    with pytest.raises(UnavailableError, match="the broker cannot be reached"):
        await connection().post(topics.LOG, said("hello"), client_id="one")


async def test_a_publication_fails_with_its_connection_and_not_at_a_timeout(unused_tcp_port: int) -> None:
    async def accept_and_break(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.read(1024)
        writer.write(CONNACK)
        await reader.read(1024)  # the publication
        writer.close()

    client = Client("127.0.0.1", unused_tcp_port, protocol=aiomqtt.ProtocolVersion.V5)
    async with (
        await asyncio.start_server(accept_and_break, "127.0.0.1", unused_tcp_port),
        asyncio.timeout(PATIENCE_S),
        entered(client, timeout_s=PATIENCE_S),
    ):
        with pytest.raises(aiomqtt.MqttError, match="the connection broke"):
            await client.deliver("a", b"1")
