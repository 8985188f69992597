"""A bad message on every topic that a service takes: logged, counted, and the service goes on."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from typing import Any
from uuid import uuid4

import aiomqtt
import pytest
from paho.mqtt.packettypes import PacketTypes
from paho.mqtt.properties import Properties

from dev.credentials import account_client, behind_our_back, device_client
from dev.fleet import Fleet
from dev.stack import Stack
from dev.system import System
from services.firmware import routes as firmware_routes
from services.firmware.diagnostics import routes as diagnostics_routes
from services.registry import routes as registry_routes
from services.rotator import routes as rotator_routes
from shared import crypto
from shared.protocol import admin, messages, topics
from shared.protocol.admin import Package
from shared.protocol.topics import Topic
from shared.server.rpc import RpcServer


class Anything:
    """Stands in for a service's tools: routes are only listed here, never called."""

    def __getattr__(self, name: str) -> Any:  # noqa: ANN401
        return Anything()


def subscribed() -> list[tuple[str, Topic[Any]]]:
    """Return every (service, topic) that a service subscribes to, as its own handlers list them."""
    tools: Any = Anything()
    desk = RpcServer(tools, tools)
    routes = {
        "registry": registry_routes.routes(
            tools, desk, configs=tools, connections=tools, presences=tools, fleet=tools
        ),
        "rotator": rotator_routes.routes(tools, tools, tools, desk),
        "firmware": [
            *firmware_routes.routes(tools, desk, tools, tools, tools),
            *diagnostics_routes.routes(tools, tools, tools, tools, desk),
            *diagnostics_routes.reports(tools, tools, tools),
        ],
    }
    return [(service, route.topic) for service, listed in routes.items() for route in listed]


TOPICS = subscribed()
DEVICE_TOPICS = [(service, topic) for service, topic in TOPICS if "{client_id}" in topic.template]
# A request for a piece of an image is answered with the reason why there is none; the leader ignores the status of
# a device that is in no rotation.
KNOWING_TOPICS = [
    it for it in DEVICE_TOPICS if it not in {("firmware", topics.FIRMWARE_CHUNK), ("rotator", topics.STATUS)}
]
ADMIN_TOPICS = [(service, topic) for service, topic in TOPICS if "/admin/" in topic.template]
# Of what is packed, any bytes are a message.
JSON_TOPICS = [(service, topic) for service, topic in TOPICS if not issubclass(topic.model, messages.Packed)]
IDS = [f"{service} {topic.template.removeprefix(topics.PREFIX)}" for service, topic in JSON_TOPICS]
BAD = {
    "not JSON": b"\xff\xfe{",
    "empty": b"",
    "wrong type": b'["a list"]',
    "wrong field types": b'{"request_id": 7, "rotation_id": 7, "sha256": 7, "version": [], "online": "perhaps"}',
    "deep": b'{"request_id":' + b"[" * 20_000 + b"]" * 20_000 + b"}",
    "1 MB": b'{"request_id": "' + b"x" * 1_000_000 + b'"}',
}


def test_every_service_is_among_them() -> None:
    assert {service for service, _ in TOPICS} == {"registry", "rotator", "firmware"}
    assert len(DEVICE_TOPICS) >= 9
    assert len(ADMIN_TOPICS) >= 12


@pytest.mark.parametrize(("service", "topic"), JSON_TOPICS, ids=IDS)
async def test_bad_messages_are_refused_counted_and_logged(
    fleet: Fleet, system: System, service: str, topic: Topic[Any]
) -> None:
    process = system.services[service]
    pid, before = process.pid, system.counted(service, topic.template)
    logged = process.log_file.stat().st_size
    if (service, topic) in ADMIN_TOPICS:
        reply = admin.REPLY.of(account="admin", client_id=uuid4().hex)
        async with account_client(system.stack.endpoints, "admin") as client:
            await client.subscribe(reply, qos=1)
            for kind, payload in BAD.items():
                answer = await refused(client, topic.of(account="admin"), payload, reply)
                assert (kind, answer.ok) == (kind, False)
                assert answer.error is not None
                assert answer.error.code == "message_refused", kind
        log = process.log_file.read_bytes()[logged:]
        assert log.count(b"request.refused") >= len(BAD)
    else:
        package = await (device_in_rotation(fleet) if service == "rotator" else fleet.device())
        name = package.client_id
        address = topic.of(client_id=name, claim_id=name, account=name, sha256="0" * 64, offset="none")
        is_event = topic.template.startswith(f"{topics.PREFIX}/events/")
        sender = account_client(system.stack.endpoints, f"svc-{service}") if is_event else device_client(package)
        async with sender as client:
            # Any name is one of a vital, and each is optional.
            bad = [it for kind, it in BAD.items() if topic is not topics.VITALS or kind != "wrong field types"]
            for payload in bad:
                await client.publish(address, payload, qos=1)
            await system.takes(service, topic.template, "refused", beyond=before["refused"] + len(bad) - 1)
        log = process.log_file.read_bytes()[logged:]
        assert log.count(b"message.refused") >= len(bad)
    assert process.pid == pid
    assert system.counted(service, topic.template)["crashed"] == before["crashed"]


async def device_in_rotation(fleet: Fleet) -> Package:
    """Return a device in a rotation while another waits for its own: else the leader ignores who is online."""
    waiting, package = await fleet.device(), await fleet.device()
    await fleet.ask(admin.ROTATION_START, device=waiting.client_id)
    await fleet.offered(package)
    return package


async def refused(client: aiomqtt.Client, topic: str, payload: bytes, reply: str) -> admin.Answer:
    properties = Properties(PacketTypes.PUBLISH)  # type: ignore[no-untyped-call]
    properties.ResponseTopic = reply
    await client.publish(topic, payload, qos=1, properties=properties)
    message = await anext(client.messages)
    assert isinstance(message.payload, bytes)
    return admin.REPLY.decode(message.payload)


@pytest.mark.parametrize(
    ("service", "topic"), KNOWING_TOPICS, ids=[f"{service} {topic.template}" for service, topic in KNOWING_TOPICS]
)
async def test_a_good_message_of_an_unknown_device_is_refused_and_counted(
    system: System, stranger: Package, service: str, topic: Topic[Any]
) -> None:
    before = system.counted(service, topic.template)
    good = {
        "request_id": "r",
        "online": True,
        "version": 1,
        "outcome": "applied",
        "rotation_id": str(uuid4()),
        "proof": "0" * 64,
        "sha256": "0" * 64,
        "chip": "esp32",
        "project": "p",
        "slot_size_bytes": 1,
        "offset": 0,
        "length": 1,
        "stage": "confirmed",
        "command_id": str(uuid4()),
        "ok": True,
        "size_bytes": 1,
        "elf_sha256": "0" * 64,
        "boot": 1,
        "first": 0,
        "lines": [{"level": "info", "message": "hello"}],
        "public_key": crypto.public_half(crypto.new_key_pair()),
    }
    if topic is topics.FIRMWARE_CHECK:
        good["version"] = "1.0.0"
    async with device_client(stranger) as client:
        address = topic.of(client_id=stranger.client_id, sha256="0" * 64, offset=0)
        await client.publish(address, json.dumps(good), qos=1)
        await system.takes(service, topic.template, "failed", beyond=before["failed"])
    assert system.counted(service, topic.template)["crashed"] == before["crashed"]


@pytest.fixture
async def stranger(stack: Stack, fleet: Fleet) -> AsyncIterator[Package]:
    """Return a device that the broker lets in, but of which the database knows nothing."""
    known = await fleet.device()
    name = f"iotdevice-nobody-{known.device_key}"
    groups = [{"groupname": "devices"}]
    await behind_our_back(stack, "createClient", name, password=known.secret, groups=groups)
    yield known.model_copy(update={"client_id": name})
    # Many of them would say that the database is not the right one.
    await behind_our_back(stack, "deleteClient", name)
