"""The listener for admins' pages: what an account may do elsewhere it may do here, and nothing more."""

from __future__ import annotations

import ssl

import aiomqtt
import pytest

from dev.credentials import CONTROL, broker_accounts
from dev.fleet import Fleet
from dev.stack import Endpoints, Stack
from shared.protocol import admin, messages, topics
from shared.protocol.topics import PREFIX
from tests.raw import RawClient, RawDevice

NOT_AUTHORIZED = 0x87


def web_client(endpoints: Endpoints, account: str, password: str, identifier: str) -> aiomqtt.Client:
    return aiomqtt.Client(
        endpoints.mqtt_host,
        endpoints.web_mqtt_port,
        username=account,
        password=password,
        identifier=identifier,
        protocol=aiomqtt.ProtocolVersion.V5,
        transport="websockets",
        tls_context=ssl.create_default_context(cafile=str(endpoints.ca_file)),
    )


async def test_one_admin_has_many_pages_open(stack: Stack) -> None:
    password = stack.endpoints.accounts["admin"]
    async with (
        web_client(stack.endpoints, "admin", password, "mdm-web-1") as first,
        web_client(stack.endpoints, "admin", password, "mdm-web-2") as second,
    ):
        for client in (first, second):
            await client.subscribe(topics.EVENT.filter, qos=1)


async def test_nobody_gets_in_without_a_password(stack: Stack) -> None:
    with pytest.raises(aiomqtt.MqttError):
        async with web_client(stack.endpoints, "admin", "wrong", "mdm-web-3"):
            pytest.fail("let in")


@pytest.mark.parametrize("identifier", ["the other device's", "a service's", "its own with more"])
async def test_a_device_can_be_nobody_but_itself_on_a_pages_listener(
    fleet: Fleet, stack: Stack, identifier: str
) -> None:
    victim, thief = await fleet.device(), await fleet.device()
    taken = {
        "the other device's": victim.client_id,
        "a service's": "svc-registry",
        "its own with more": f"{thief.client_id}-2",
    }[identifier]
    async with RawDevice(victim) as device:
        with pytest.raises(aiomqtt.MqttError) as refused:
            async with web_client(stack.endpoints, thief.client_id, thief.secret, taken):
                pytest.fail("let in")
        assert getattr(getattr(refused.value, "rc", None), "value", None) == NOT_AUTHORIZED
        # The other one's session has not been taken.
        await fleet.ask(admin.CONFIG_SET, device=victim.client_id, overrides={"x": 1})
        assert (await device.receive(topics.CONFIG)).document == {"x": 1}


async def test_a_device_has_only_its_own_topics_on_a_pages_listener(fleet: Fleet, stack: Stack) -> None:
    victim, thief = await fleet.device(), await fleet.device()
    client = web_client(stack.endpoints, thief.client_id, thief.secret, thief.client_id)
    async with RawDevice(victim) as device, RawClient(client, f"{PREFIX}/#", client_id=thief.client_id) as other:
        online = messages.Status(online=True, firmware_version="6.6.6")
        await client.publish(topics.STATUS.of(client_id=victim.client_id), topics.STATUS.encode(online), qos=1)
        await client.publish(admin.MODEL_LIST.topic.of(account="admin"), b'{"request_id":"x"}', qos=1)
        await client.publish(CONTROL, b'{"commands":[{"command":"createClient","username":"forged"}]}', qos=1)
        (code,) = await client.subscribe(f"$share/registry/{PREFIX}/d/+/up/#", qos=1)
        assert getattr(code, "is_failure", False)
        await fleet.ask(admin.CONFIG_SET, device=victim.client_id, overrides={"secret": "of the victim"})
        await device.receive(topics.CONFIG)
        # The broker has delivered to all that may read it before it delivers what was sent later.
        await fleet.ask(admin.CONFIG_SET, device=thief.client_id, overrides={"x": 1})
        assert (await other.receive(topics.CONFIG)).document == {"x": 1}
        assert not any(victim.client_id in address for address in other.addresses)
        assert not other.received(topics.EVENT)
    assert (await fleet.show(victim)).firmware_version is None
    assert "forged" not in await broker_accounts(stack.endpoints)
