"""What a device, a service or an admin may not do at the broker, each tried for real."""

from __future__ import annotations

import asyncio
import json
from contextlib import suppress
from uuid import uuid4

import aiomqtt
import pytest
from paho.mqtt.packettypes import PacketTypes
from paho.mqtt.properties import Properties

from dev.credentials import CONTROL, account_client, broker_accounts, claim_client
from dev.fleet import Fleet
from dev.stack import Stack
from dev.system import System
from shared.protocol import admin, messages, topics
from shared.protocol.topics import PREFIX
from tests.claims import new_claim, new_uid
from tests.raw import RawClient, RawDevice, RawMachine

ACCOUNTS = ["svc-registry", "svc-rotator", "svc-firmware", "svc-accounts", "admin"]


async def test_a_device_reads_only_its_own_topics(fleet: Fleet) -> None:
    victim, thief = await fleet.device(), await fleet.device()
    async with RawDevice(victim) as device, RawDevice(thief) as other:
        for wanted in (f"{PREFIX}/d/{victim.client_id}/#", f"{PREFIX}/d/+/down/#", f"{PREFIX}/#", "#", "$SYS/#"):
            await other.client.subscribe(wanted, qos=1)
        await fleet.ask(admin.CONFIG_SET, device=victim.client_id, overrides={"secret": "of the victim"})
        await device.receive(topics.CONFIG)
        # The broker has delivered to all that may read it before it delivers what was sent later.
        await fleet.ask(admin.CONFIG_SET, device=thief.client_id, overrides={"x": 1})
        own = await other.receive(topics.CONFIG)
        assert own.document == {"x": 1}
        assert not other.received(topics.CONFIG)
        assert not other.received(topics.STATUS)


async def test_a_device_writes_only_its_own_topics(fleet: Fleet) -> None:
    victim, thief = await fleet.device(), await fleet.device()
    async with RawDevice(victim) as device, RawDevice(thief) as other:
        online = messages.Status(online=True, firmware_version="6.6.6")
        for client_id in (victim.client_id, thief.client_id):
            await other.client.publish(
                topics.STATUS.of(client_id=client_id), topics.STATUS.encode(online), qos=1, retain=True
            )
        cancelled = messages.RotationCancelled(rotation_id=uuid4(), reason="forged")
        await other.client.publish(
            topics.ROTATION_CANCELLED.of(client_id=victim.client_id),
            topics.ROTATION_CANCELLED.encode(cancelled),
            qos=1,
        )
        await fleet.until(thief, lambda view: view.firmware_version == "6.6.6")
        assert (await fleet.show(victim)).firmware_version is None
        assert not device.received(topics.ROTATION_CANCELLED)


async def test_a_machine_of_a_claim_reads_only_its_own_answers(fleet: Fleet) -> None:
    claim, other = await new_claim(fleet, uses=5), await new_claim(fleet)
    async with (
        RawMachine(claim, new_uid()) as machine,
        RawMachine(other, new_uid()) as stranger,
        RawMachine(claim, new_uid()) as thief,
        claim_client(claim, "+") as joker,
        claim_client(claim, "#") as other_joker,
    ):
        for client in (thief.client, joker, other_joker):
            for wanted in (f"{PREFIX}/claim/{claim.account}/#", f"{PREFIX}/claim/+/answer/+", f"{PREFIX}/#", "#"):
                await client.subscribe(wanted, qos=1)
        await machine.claim()
        await stranger.claim()
        package = await fleet.device()
        await fleet.ask(admin.CONFIG_SET, device=package.client_id, overrides={"x": 1})
        # What it may read comes behind all that it must not.
        await thief.claim()
        own = topics.CLAIM_ANSWER.of(claim_id=claim.account, uid=thief.request.uid)
        assert thief.addresses <= {own}
        for client in (joker, other_joker):
            await client.unsubscribe("#")
            assert len(client.messages) == 0


async def test_a_machine_of_a_claim_writes_only_its_requests(fleet: Fleet, stack: Stack) -> None:
    claim, other = await new_claim(fleet, uses=5), await new_claim(fleet)
    package, name = await fleet.device(), f"forged-{uuid4().hex}"
    async with (
        RawMachine(claim, new_uid()) as machine,
        RawMachine(claim, new_uid()) as second,
        RawDevice(package) as device,
        RawClient(account_client(stack.endpoints, "svc-registry"), f"{PREFIX}/#") as registry,
        RawClient(account_client(stack.endpoints, "admin"), f"{PREFIX}/#") as watcher,
    ):
        forged = {
            topics.STATUS.of(client_id=claim.account),
            topics.CONFIG_GET.of(client_id=claim.account),
            topics.STATUS.of(client_id=package.client_id),
            topics.CONFIG.of(client_id=package.client_id),
            topics.CLAIM_REQUEST.of(claim_id=other.account),
            f"{topics.CLAIM_REQUEST.of(claim_id=claim.account)}/more",
            topics.CLAIM_ANSWER.of(claim_id=claim.account, uid=second.request.uid),
            topics.EVENT.of(noun="forged", verb="it"),
            topics.SERVICE_STATUS.of(name="registry", instance="forged"),
            admin.CLAIM_LIST.topic.of(account="admin"),
            admin.CLAIM_LIST.topic.of(account=claim.account),
            admin.REPLY.of(account="admin", client_id="x"),
            CONTROL,
        }
        for topic in forged:
            await machine.client.publish(topic, create_client(name), qos=1)
        # What it may write comes behind all that it must not; the event is told to all at last.
        await machine.claim()
        await second.claim()
        await fleet.ask(admin.CONFIG_SET, device=package.client_id, overrides={"x": 1})
        assert (await device.receive(topics.CONFIG)).document == {"x": 1}
        await registry.receive(topics.CLAIM_REQUEST)
        await watcher.receive(topics.EVENT)
        seen = machine.addresses | second.addresses | device.addresses | registry.addresses | watcher.addresses
    assert not forged & seen
    assert name not in await broker_accounts(stack.endpoints)


async def test_a_machine_that_names_itself_like_a_device_takes_nothing_from_it(fleet: Fleet) -> None:
    package, claim = await fleet.device(), await new_claim(fleet)
    async with fleet.powered(package):
        await fleet.until(package, lambda view: view.config_outcome == "applied")
    await fleet.until(package, lambda view: not view.online)
    # It waits in the device's session, which the broker gives to whoever has the client id.
    await fleet.ask(admin.CONFIG_SET, device=package.client_id, overrides={"secret": "of the device"})
    async with claim_client(claim, package.client_id, clean=False) as thief:
        await thief.subscribe(f"{PREFIX}/d/{package.client_id}/#", qos=1)
        await thief.unsubscribe("nothing")
        assert len(thief.messages) == 0
    async with fleet.powered(package):
        await fleet.until(package, lambda view: view.config_version_reported == 2)


async def test_a_device_comes_back_after_its_client_id_was_taken(fleet: Fleet) -> None:
    package, claim = await fleet.device(), await new_claim(fleet)
    async with fleet.powered(package):
        await fleet.until(package, lambda view: view.online)
        with suppress(aiomqtt.MqttError):
            async with claim_client(claim, package.client_id) as thief:
                await anext(thief.messages)
        # The device has taken it back.
        await fleet.ask(admin.CONFIG_SET, device=package.client_id, overrides={"x": 1})
        view = await fleet.until(package, lambda view: view.config_version_reported == 2)
        assert view.online


@pytest.mark.parametrize("group", ["registry", "other"])
async def test_a_machine_of_a_claim_cannot_join_a_shared_subscription(fleet: Fleet, group: str) -> None:
    claim = await new_claim(fleet)
    async with RawMachine(claim, new_uid()) as machine:
        for topic in (topics.CLAIM_REQUEST.filter, f"{PREFIX}/claim/{claim.account}/answer/#", "#"):
            (code,) = await machine.client.subscribe(f"$share/{group}/{topic}", qos=1)
            assert getattr(code, "is_failure", False), topic


async def test_a_machine_of_a_claim_has_nothing_below_the_topics_of_devices(fleet: Fleet, stack: Stack) -> None:
    claim = await new_claim(fleet)
    topic = topics.CONFIG.of(client_id=claim.account)
    async with (
        RawMachine(claim, new_uid()) as machine,
        account_client(stack.endpoints, "svc-registry") as registry,
    ):
        await machine.client.subscribe(topic, qos=1)
        await registry.publish(topic, b"{}", qos=1)
        await machine.claim()
        assert topic not in machine.addresses


@pytest.mark.parametrize("group", ["registry", "firmware", "other"])
async def test_a_device_cannot_join_a_shared_subscription(fleet: Fleet, group: str) -> None:
    package = await fleet.device()
    async with RawDevice(package) as device:
        for topic in (f"{PREFIX}/d/+/up/#", f"{PREFIX}/d/{package.client_id}/down/#", "#"):
            (code,) = await device.client.subscribe(f"$share/{group}/{topic}", qos=1)
            assert getattr(code, "is_failure", False), topic


@pytest.mark.parametrize("account", [account for account in ACCOUNTS if account != "svc-accounts"])
async def test_only_svc_accounts_may_change_accounts(stack: Stack, account: str) -> None:
    await refused_control(stack, account)


async def test_a_device_may_not_change_accounts(fleet: Fleet, stack: Stack) -> None:
    package = await fleet.device()
    name = f"forged-{uuid4().hex}"
    async with RawDevice(package) as device:
        await device.client.publish(CONTROL, create_client(name), qos=1)
    assert name not in await broker_accounts(stack.endpoints)


async def test_svc_accounts_may_change_accounts_and_do_nothing_else(stack: Stack) -> None:
    name = f"made-{uuid4().hex}"
    async with account_client(stack.endpoints, "svc-accounts") as client:
        await client.subscribe(f"{CONTROL}/response", qos=1)
        await client.subscribe("#", qos=1)
        await client.publish(CONTROL, create_client(name), qos=1)
        async with asyncio.timeout(10):
            response = await anext(client.messages)
        assert str(response.topic) == f"{CONTROL}/response"
        await client.publish(f"{PREFIX}/d/someone/down/config", b"{}", qos=1, retain=True)
        delete = {"commands": [{"command": "deleteClient", "username": name}]}
        await client.publish(CONTROL, json.dumps(delete), qos=1)
        async with asyncio.timeout(10):
            response = await anext(client.messages)
        assert str(response.topic) == f"{CONTROL}/response"


async def test_an_admin_cannot_have_a_service_answer_on_a_devices_topic(
    fleet: Fleet, stack: Stack, system: System
) -> None:
    package = await fleet.device()
    template = admin.MODEL_LIST.topic.template
    before = system.counted("registry", template)
    async with RawDevice(package) as device, account_client(stack.endpoints, "admin") as client:
        properties = Properties(PacketTypes.PUBLISH)  # type: ignore[no-untyped-call]
        properties.ResponseTopic = topics.CONFIG.of(client_id=package.client_id)
        request = admin.Nothing(request_id=uuid4().hex)
        await client.publish(
            admin.MODEL_LIST.topic.of(account="admin"), request.model_dump_json(), qos=1, properties=properties
        )
        await client.publish(
            admin.MODEL_LIST.topic.of(account="other"), request.model_dump_json(), qos=1, properties=properties
        )
        await system.takes("registry", template, "refused", beyond=before["refused"])
        assert not device.received(topics.CONFIG)


async def refused_control(stack: Stack, account: str) -> None:
    name = f"forged-{uuid4().hex}"
    async with account_client(stack.endpoints, account) as client:
        await client.publish(CONTROL, create_client(name), qos=1)
    assert name not in await broker_accounts(stack.endpoints)


def create_client(name: str) -> str:
    return json.dumps({"commands": [{"command": "createClient", "username": name, "password": "x" * 43}]})
