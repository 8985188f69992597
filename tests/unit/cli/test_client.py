import asyncio

import aiomqtt
import pytest
from paho.mqtt.packettypes import PacketTypes
from paho.mqtt.properties import Properties
from pydantic import SecretStr

from cli import client
from cli.profile import Profile
from shared.errors import InvalidInputError
from shared.protocol import admin, topics
from shared.protocol.messages import ServiceStatus

PROFILE = Profile(host="broker.test", account="alice", password=SecretStr("secret"))
NOTHING = b'{"ok": true, "result": {"models": []}}'


def reply(connection: client.Admin, payload: bytes, correlation: bytes | None) -> aiomqtt.Message:
    properties = Properties(PacketTypes.PUBLISH)  # type: ignore[no-untyped-call]
    if correlation is not None:
        properties.CorrelationData = correlation
    topic = connection._reply_topic
    return aiomqtt.Message(topic, payload, qos=1, retain=False, mid=1, properties=properties)


def test_each_run_listens_for_its_own_replies() -> None:
    first, second = client.Admin(PROFILE), client.Admin(PROFILE)
    assert first._reply_topic.startswith("mdm/v1/replies/alice/mdm-cli-")
    assert first._reply_topic != second._reply_topic


async def test_an_answer_goes_to_the_request_that_it_belongs_to() -> None:
    connection = client.Admin(PROFILE)
    one, other = (asyncio.get_running_loop().create_future() for _ in range(2))
    connection._pending = {b"one": one, b"other": other}
    connection._on_message(reply(connection, NOTHING, b"other"))
    assert (one.done(), other.result().result) == (False, {"models": []})


@pytest.mark.parametrize("correlation", [b"late", b"", None])
async def test_an_answer_that_nobody_waits_for_is_ignored(correlation: bytes | None) -> None:
    connection = client.Admin(PROFILE)
    connection._on_message(reply(connection, NOTHING, correlation))


async def test_the_second_of_two_answers_is_ignored() -> None:
    connection = client.Admin(PROFILE)
    answer: asyncio.Future[admin.Answer] = asyncio.get_running_loop().create_future()
    connection._pending = {b"one": answer}
    connection._on_message(reply(connection, NOTHING, b"one"))
    connection._on_message(reply(connection, b'{"ok": false}', b"one"))
    assert answer.result().ok


async def test_an_answer_of_any_length_is_read() -> None:
    connection = client.Admin(PROFILE)
    answer: asyncio.Future[admin.Answer] = asyncio.get_running_loop().create_future()
    connection._pending = {b"one": answer}
    text = "x" * 1_000_000
    connection._on_message(reply(connection, b'{"ok": true, "result": {"a": "%s"}}' % text.encode(), b"one"))
    assert answer.result().result == {"a": text}


@pytest.mark.parametrize("payload", [b"", b"{", b'{"result": {}}'])
async def test_an_unreadable_answer_ends_its_call(payload: bytes) -> None:
    connection = client.Admin(PROFILE)
    answer: asyncio.Future[admin.Answer] = asyncio.get_running_loop().create_future()
    connection._pending = {b"one": answer}
    connection._on_message(reply(connection, payload, b"one"))
    with pytest.raises(client.AnswerError, match="answer: ") as caught:
        answer.result()
    assert caught.value.answer_code == "unreadable"


@pytest.mark.parametrize(
    ("answer", "code"),
    [
        (
            admin.Answer(ok=False, error=admin.Problem(code="conflict", message="taken", details={"a": 1})),
            "conflict",
        ),
        (admin.Answer(ok=False), "unknown"),
        (admin.Answer(ok=True), "unreadable"),
        (admin.Answer(ok=True, result={"models": 1}), "unreadable"),
    ],
)
def test_an_answer_that_is_no_result_is_an_error_with_its_code(answer: admin.Answer, code: str) -> None:
    with pytest.raises(client.AnswerError) as caught:
        client._result(admin.MODEL_LIST, answer)
    assert caught.value.answer_code == code
    assert caught.value.details == (answer.error.details if answer.error else {})


async def test_a_request_that_is_too_large_is_not_sent() -> None:
    operation = admin.Operation("registry", "model", "list", admin.Nothing, admin.Models, max_bytes=10)
    with pytest.raises(InvalidInputError, match="request: must be at most 10 bytes, has "):
        await client.Admin(PROFILE).call(operation, client.build(admin.MODEL_LIST))


def status_of(service: str, instance: str, *, online: bool) -> aiomqtt.Message:
    topic = topics.SERVICE_STATUS.of(name=service, instance=instance)
    payload = topics.SERVICE_STATUS.encode(ServiceStatus(online=online))
    return aiomqtt.Message(topic, payload, qos=1, retain=True, mid=1, properties=None)


@pytest.mark.parametrize(
    ("statuses", "noted"),
    [
        ([("registry", "a", False), ("registry", "b", False), ("rotator", "a", True)], True),
        ([("registry", "a", False), ("registry", "b", True)], False),
        ([("rotator", "a", False)], False),
    ],
)
async def test_a_service_that_is_known_to_be_offline_is_noted_while_its_answer_is_awaited(
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
    statuses: list[tuple[str, str, bool]],
    *,
    noted: bool,
) -> None:
    monkeypatch.setattr(client, "_LOOK_S", 0)
    connection = client.Admin(PROFILE)
    connection._task = asyncio.get_running_loop().create_future()  # type: ignore[assignment] # it stays connected
    for service, instance, online in statuses:
        connection._on_message(status_of(service, instance, online=online))
    with pytest.raises(client.NoAnswerError):
        await connection.call(admin.MODEL_LIST, client.build(admin.MODEL_LIST), timeout_s=0.1)
    expected = "the registry service is offline; waiting for it, up to 0.1 s\n"
    assert capsys.readouterr().err == (expected if noted else "")
