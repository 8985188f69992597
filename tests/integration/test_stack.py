from __future__ import annotations

import asyncio
import json
import signal
import ssl
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any
from uuid import uuid4

import aiomqtt
import asyncpg
import httpx
import pytest
import pytest_asyncio

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from dev.stack import Stack

CONTROL = "$CONTROL/dynamic-security/v1"
SECONDS = 10


@dataclass
class Broker:
    """The stack's broker with two devices that exist for one test."""

    stack: Stack
    first: str = field(default_factory=lambda: f"iotdevice-stack-{uuid4().hex[:8]}")
    second: str = field(default_factory=lambda: f"iotdevice-stack-{uuid4().hex[:8]}")

    def client(self, account: str) -> aiomqtt.Client:
        """A connection as a service, or as the admin."""
        endpoints = self.stack.endpoints
        return aiomqtt.Client(
            endpoints.mqtt_host,
            endpoints.mqtt_port,
            username=account,
            password=endpoints.accounts[account],
            protocol=aiomqtt.ProtocolVersion.V5,
        )

    def device(self, name: str, password: str | None = None) -> aiomqtt.Client:
        """A connection as a device, over TLS, with a client id that is not its own."""
        endpoints = self.stack.endpoints
        return aiomqtt.Client(
            endpoints.mqtt_host,
            endpoints.device_mqtt_port,
            username=name,
            password=password or f"password of {name}",
            identifier="anything",
            protocol=aiomqtt.ProtocolVersion.V311,
            tls_context=ssl.create_default_context(cafile=str(endpoints.ca_file)),
        )

    def any(self, who: str) -> aiomqtt.Client:
        names = {"first": self.first, "second": self.second}
        return self.device(names[who]) if who in names else self.client(who)

    def topic(self, template: str) -> str:
        return template.format(first=self.first, second=self.second)

    async def command(self, command: str, **arguments: Any) -> dict[str, Any]:  # noqa: ANN401
        """Have the plugin do this, and return its answer."""
        async with asyncio.timeout(SECONDS), self.client("svc-accounts") as client:
            await client.subscribe(f"{CONTROL}/response", qos=1)
            document = {"commands": [{"command": command, **arguments}]}
            await client.publish(CONTROL, json.dumps(document), qos=1)
            async for message in client.messages:
                answer: dict[str, Any] = json.loads(payload(message))["responses"][0]
                return answer
        raise AssertionError

    async def create(self, name: str) -> None:
        answer = await self.command(
            "createClient",
            username=name,
            clientid=name,
            password=f"password of {name}",
            groups=[{"groupname": "devices"}],
        )
        assert "error" not in answer


def payload(message: aiomqtt.Message) -> bytes:
    assert isinstance(message.payload, bytes)
    return message.payload


@pytest_asyncio.fixture
async def broker(stack: Stack) -> AsyncIterator[Broker]:
    made = Broker(stack)
    await made.create(made.first)
    await made.create(made.second)
    yield made
    await made.command("deleteClient", username=made.first)
    await made.command("deleteClient", username=made.second)


@asynccontextmanager
async def refused(client: aiomqtt.Client) -> AsyncIterator[None]:
    with pytest.raises(aiomqtt.MqttError):
        async with asyncio.timeout(SECONDS), client:
            pass
    yield


# For each receiver, who can send it a marker on which topic: it arrives after all that was allowed before it.
MARKERS = {
    "first": ("svc-registry", "mdm/v1/d/{first}/down/marker"),
    "second": ("svc-registry", "mdm/v1/d/{second}/down/marker"),
    "svc-registry": ("first", "mdm/v1/d/{first}/up/log"),
    "svc-rotator": ("first", "mdm/v1/d/{first}/up/log"),
    "svc-firmware": ("first", "mdm/v1/d/{first}/up/log"),
    "svc-accounts": ("svc-accounts", CONTROL),
    "admin": ("svc-registry", "mdm/v1/replies/admin/marker"),
}


async def arrives(broker: Broker, sender: str, topic: str, receiver: str) -> bool:
    """Return whether what `sender` publishes on `topic` gets to `receiver`, who subscribes to everything."""
    marker_sender, marker_topic = (broker.topic(text) for text in MARKERS[receiver])
    if marker_topic == CONTROL:
        marker_topic = f"{CONTROL}/response"
    topic, body = broker.topic(topic), uuid4().hex.encode()
    async with asyncio.timeout(SECONDS), AsyncExitStack() as stack:
        clients = {
            name: await stack.enter_async_context(broker.any(name))
            for name in sorted({sender, MARKERS[receiver][0], receiver})
        }
        to = clients[receiver]
        await to.subscribe([("#", 1), (f"{CONTROL}/#", 1)])
        await clients[sender].publish(topic, body, qos=1)
        if receiver == "svc-accounts":
            await clients[marker_sender].publish(CONTROL, json.dumps({"commands": [{"command": "listRoles"}]}))
        else:
            await clients[marker_sender].publish(marker_topic, b"marker", qos=1)
        found = False
        async for message in to.messages:
            found = found or (message.topic.value == topic and payload(message) == body)
            if message.topic.value == marker_topic:
                return found
    raise AssertionError


@pytest.mark.parametrize(
    ("sender", "topic", "receiver"),
    [
        ("first", "mdm/v1/d/{first}/up/status", "svc-registry"),
        ("first", "mdm/v1/d/{first}/up/firmware/check", "svc-firmware"),
        ("first", "mdm/v1/d/{first}/up/rotation/ack", "svc-rotator"),
        ("first", "mdm/v1/d/{first}/up/status", "admin"),
        ("svc-registry", "mdm/v1/d/{first}/up/status", "admin"),
        ("svc-rotator", "mdm/v1/d/{first}/up/status", "admin"),
        ("svc-registry", "mdm/v1/d/{first}/down/config", "first"),
        ("svc-rotator", "mdm/v1/d/{first}/down/rotation/offer", "first"),
        ("svc-firmware", "mdm/v1/d/{first}/down/firmware/chunk/ab/0", "first"),
        ("admin", "mdm/v1/admin/admin/registry/device/create", "svc-registry"),
        ("admin", "mdm/v1/admin/admin/rotator/device/rotate", "svc-rotator"),
        ("admin", "mdm/v1/admin/admin/firmware/image/add", "svc-firmware"),
        ("svc-registry", "mdm/v1/replies/admin/one", "admin"),
        ("svc-rotator", "mdm/v1/replies/admin/one", "admin"),
        ("svc-firmware", "mdm/v1/replies/admin/one", "admin"),
        ("svc-registry", "mdm/v1/events/device/created", "svc-rotator"),
        ("svc-rotator", "mdm/v1/events/rotation/done", "svc-firmware"),
        ("svc-firmware", "mdm/v1/events/rollout/started", "admin"),
        ("svc-registry", "mdm/v1/services/registry/1/status", "admin"),
    ],
)
async def test_the_protocol_s_ways_are_open(broker: Broker, sender: str, topic: str, receiver: str) -> None:
    assert await arrives(broker, sender, topic, receiver)


@pytest.mark.parametrize(
    ("sender", "topic", "receiver"),
    [
        # A device cannot pretend to be another, read another's messages or speak as a service.
        ("first", "mdm/v1/d/{second}/up/status", "svc-registry"),
        ("first", "mdm/v1/d/{first}/down/config", "first"),
        ("first", "mdm/v1/d/{second}/down/config", "second"),
        ("first", "mdm/v1/d/{first}/up/log", "second"),
        ("first", "mdm/v1/d/{first}/up/log", "admin"),
        ("svc-registry", "mdm/v1/d/{first}/down/config", "second"),
        ("svc-registry", "mdm/v1/d/{first}/down/config", "admin"),
        ("svc-registry", "mdm/v1/events/device/created", "first"),
        ("svc-registry", "mdm/v1/replies/admin/one", "first"),
        ("first", "mdm/v1/events/device/created", "svc-rotator"),
        ("first", "mdm/v1/replies/admin/one", "admin"),
        ("first", "mdm/v1/admin/admin/registry/device/create", "svc-registry"),
        ("first", "mdm/v1/admin/{first}/registry/device/create", "svc-registry"),
        # The admin asks under its own name only, and speaks to devices through the services only.
        ("admin", "mdm/v1/admin/other/registry/device/create", "svc-registry"),
        ("admin", "mdm/v1/admin/admin/registry/device/create", "svc-rotator"),
        ("admin", "mdm/v1/admin/admin/rotator/device/rotate", "svc-firmware"),
        ("admin", "mdm/v1/d/{first}/down/command", "first"),
        ("admin", "mdm/v1/events/device/created", "svc-rotator"),
        ("svc-registry", "mdm/v1/replies/other/one", "admin"),
        # A service speaks for itself.
        ("svc-firmware", "mdm/v1/d/{first}/up/status", "svc-registry"),
        ("svc-rotator", "mdm/v1/d/{first}/up/config/get", "svc-registry"),
        ("svc-rotator", "mdm/v1/services/registry/1/status", "admin"),
        # The account that manages accounts does nothing else.
        ("svc-accounts", "mdm/v1/d/{first}/down/config", "first"),
        ("svc-accounts", "mdm/v1/events/device/created", "svc-rotator"),
        ("first", "mdm/v1/d/{first}/up/status", "svc-accounts"),
        ("svc-registry", "mdm/v1/events/device/created", "svc-accounts"),
    ],
)
async def test_all_other_ways_are_closed(broker: Broker, sender: str, topic: str, receiver: str) -> None:
    assert not await arrives(broker, sender, topic, receiver)


@pytest.mark.parametrize(
    "topic_filter",
    [
        "$share/registry/mdm/v1/d/+/up/#",
        "$share/any/#",
        "$share/any/mdm/v1/d/{first}/down/#",
    ],
)
async def test_a_device_cannot_join_a_shared_subscription(broker: Broker, topic_filter: str) -> None:
    async with asyncio.timeout(SECONDS), broker.device(broker.first) as device:
        (answer,) = await device.subscribe(broker.topic(topic_filter), qos=1)
        assert not isinstance(answer, int)
        assert answer.value == 0x80  # failure, MQTT 3.1.1 section 3.9.3


async def test_a_refused_publication_leaves_the_device_connected(broker: Broker) -> None:
    async with asyncio.timeout(SECONDS), broker.device(broker.first) as device:
        await device.subscribe(f"mdm/v1/d/{broker.first}/down/#", qos=1)
        await device.publish("mdm/v1/events/device/created", b"", qos=0)
        await device.publish("mdm/v1/events/device/created", b"", qos=1)
        async with broker.client("svc-registry") as registry:
            await registry.publish(f"mdm/v1/d/{broker.first}/down/config", b"still here", qos=1)
        assert payload(await anext(device.messages)) == b"still here"


async def test_services_share_a_subscription(broker: Broker) -> None:
    topic_filter = f"$share/stack/mdm/v1/d/{broker.first}/up/#"
    async with (
        asyncio.timeout(SECONDS),
        broker.client("svc-firmware") as one,
        broker.client("svc-firmware") as other,
        broker.device(broker.first) as device,
        asyncio.TaskGroup() as tasks,
    ):
        await one.subscribe(topic_filter, qos=1)
        await other.subscribe(topic_filter, qos=1)
        waiting = [tasks.create_task(anext(client.messages)) for client in (one, other)]
        bodies = {b"1", b"2"}
        for body in sorted(bodies):
            await device.publish(f"mdm/v1/d/{broker.first}/up/log", body, qos=1)
        assert {payload(await message) for message in waiting} == bodies


@pytest.mark.parametrize("sender", ["first", "svc-registry", "svc-rotator", "svc-firmware", "admin"])
async def test_only_svc_accounts_manages_accounts(broker: Broker, sender: str) -> None:
    name = f"intruder-{uuid4().hex}"
    async with asyncio.timeout(SECONDS), broker.any(sender) as client:
        document = {"commands": [{"command": "createClient", "username": name, "password": "x"}]}
        await client.publish(CONTROL, json.dumps(document), qos=1)
    assert "error" in await broker.command("getClient", username=name)


async def test_a_device_s_account_lives_by_the_plugin_s_commands(broker: Broker) -> None:
    name = f"iotdevice-stack-{uuid4().hex[:8]}"
    async with refused(broker.device(name)):
        pass
    await broker.create(name)
    async with asyncio.timeout(SECONDS), broker.device(name):
        pass
    async with refused(broker.device(name, "wrong")):
        pass
    await broker.command("setClientPassword", username=name, password="another")
    async with refused(broker.device(name)):
        pass
    async with asyncio.timeout(SECONDS), broker.device(name, "another"):
        pass
    await broker.command("deleteClient", username=name)
    async with refused(broker.device(name, "another")):
        pass


async def test_a_new_password_disconnects_the_device(broker: Broker) -> None:
    with pytest.raises(aiomqtt.MqttError):  # noqa: PT012 - the loop ends by it
        async with asyncio.timeout(SECONDS), broker.device(broker.first) as device:
            await broker.command("setClientPassword", username=broker.first, password="another")
            async for _ in device.messages:
                pass


async def test_nobody_gets_in_without_a_password(broker: Broker) -> None:
    endpoints = broker.stack.endpoints
    async with refused(aiomqtt.Client(endpoints.mqtt_host, endpoints.mqtt_port)):
        pass


async def retained(broker: Broker, topic: str) -> bytes:
    async with asyncio.timeout(SECONDS), broker.client("svc-registry") as client:
        await client.subscribe(topic, qos=1)
        return payload(await anext(client.messages))


async def test_accounts_survive_a_killed_broker(broker: Broker) -> None:
    server, port = broker.stack.broker, broker.stack.endpoints.mqtt_port
    before = server.pid
    await asyncio.to_thread(server.kill)
    assert not server.running
    with pytest.raises(OSError):  # noqa: PT011 - refused, whatever its number
        await asyncio.open_connection(broker.stack.endpoints.mqtt_host, port)
    await asyncio.to_thread(server.start)
    assert server.pid != before
    async with asyncio.timeout(SECONDS), broker.device(broker.first):
        pass


async def test_retained_messages_survive_a_restarted_broker(broker: Broker) -> None:
    topic = f"mdm/v1/d/{broker.first}/up/status"
    async with asyncio.timeout(SECONDS), broker.device(broker.first) as device:
        await device.publish(topic, b"here", qos=1, retain=True)
    await asyncio.to_thread(broker.stack.broker.restart)
    assert await retained(broker, topic) == b"here"


async def test_saved_retained_messages_survive_a_killed_broker(broker: Broker) -> None:
    topic = f"mdm/v1/d/{broker.first}/up/status"
    async with asyncio.timeout(SECONDS), broker.device(broker.first) as device:
        await device.publish(topic, b"here", qos=1, retain=True)
        # As autosave_interval does. The broker answers only after it has saved.
        broker.stack.broker.send_signal(signal.SIGUSR1)
        await device.publish(f"mdm/v1/d/{broker.first}/up/log", b"", qos=1)
        await device.publish(f"mdm/v1/d/{broker.first}/up/log", b"", qos=1)
    await asyncio.to_thread(broker.stack.broker.kill)
    await asyncio.to_thread(broker.stack.broker.start)
    assert await retained(broker, topic) == b"here"


async def test_committed_rows_survive_a_killed_database(stack: Stack) -> None:
    url = stack.endpoints.database_url.replace("+asyncpg", "")
    connection = await asyncpg.connect(url)
    await connection.execute("CREATE TABLE stack_test (x int)")
    await connection.execute("INSERT INTO stack_test VALUES (7)")
    await asyncio.to_thread(stack.postgres.kill)
    connection.terminate()
    await asyncio.to_thread(stack.postgres.start)
    connection = await asyncpg.connect(url)
    try:
        assert await connection.fetchval("SELECT x FROM stack_test") == 7
        assert int(await connection.fetchval("SHOW max_connections")) == 200
        await connection.execute("DROP TABLE stack_test")
    finally:
        await connection.close()


async def test_a_database_with_clients_restarts_at_once(stack: Stack) -> None:
    url = stack.endpoints.database_url.replace("+asyncpg", "")
    connection = await asyncpg.connect(url)
    async with asyncio.timeout(SECONDS):
        await asyncio.to_thread(stack.postgres.restart)
    connection.terminate()


async def token(stack: Stack, client: str, secret: str) -> httpx.Response:
    endpoints = stack.endpoints
    form = {"grant_type": "client_credentials", "client_id": client, "client_secret": secret}
    url = f"{endpoints.keycloak_url}/realms/{endpoints.realm}/protocol/openid-connect/token"
    async with httpx.AsyncClient(timeout=30) as http:
        return await http.post(url, data=form)


@pytest.mark.parametrize("client", ["mdm-registry", "mdm-rotator"])
async def test_a_service_s_client_may_manage_clients(stack: Stack, client: str) -> None:
    endpoints = stack.endpoints
    answer = await token(stack, client, endpoints.keycloak_clients[client])
    headers = {"Authorization": f"Bearer {answer.json()['access_token']}"}
    url = f"{endpoints.keycloak_url}/admin/realms/{endpoints.realm}/clients"
    name = f"stack-{uuid4().hex}"
    async with httpx.AsyncClient(timeout=30, headers=headers) as http:
        made = await http.post(url, json={"clientId": name})
        assert made.status_code == httpx.codes.CREATED
        assert (await http.delete(made.headers["Location"])).status_code == httpx.codes.NO_CONTENT


async def test_only_the_registrys_client_reads_which_devices_were_refused_and_nothing_else_is_noted(
    stack: Stack,
) -> None:
    endpoints = stack.endpoints
    assert (await token(stack, "mdm-rotator", "a wrong secret")).status_code == httpx.codes.UNAUTHORIZED
    url = f"{endpoints.keycloak_url}/admin/realms/{endpoints.realm}/events"
    seen = {}
    for client, secret in endpoints.keycloak_clients.items():
        headers = {"Authorization": f"Bearer {(await token(stack, client, secret)).json()['access_token']}"}
        async with httpx.AsyncClient(timeout=30, headers=headers) as http:
            seen[client] = await http.get(url)
    assert seen["mdm-rotator"].status_code == httpx.codes.FORBIDDEN
    noted = seen["mdm-registry"].raise_for_status().json()
    assert "mdm-rotator" in {event["clientId"] for event in noted}
    assert {event["type"] for event in noted} == {"CLIENT_LOGIN_ERROR"}
