"""The devices' own traffic, `app/{client_id}/...`: who takes part in it, and what everybody else tries in vain."""

from __future__ import annotations

import asyncio
import json
import ssl
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Final
from uuid import uuid4

import aiomqtt
import pytest

from dev.credentials import CONTROL, account_client, behind_our_back, broker_accounts
from dev.fleet import Fleet
from dev.stack import Stack
from dev.system import System
from dev.waiting import logged, until
from services.registry.instance import ACCOUNTS as RECOVERY
from services.registry.reconciler.broker_load import PER_DEVICE, SPARE
from shared import crypto
from shared.mqtt.client import Client
from shared.protocol import admin, messages, topics
from shared.protocol.admin import BUILT_IN, OPERATIONS, ClaimPackage, Package, Role
from shared.protocol.topics import PREFIX
from tests.claims import new_claim
from tests.integration.test_accounts import NOT_AUTHORIZED, bare, new_account, publish
from tests.raw import RawDevice
from tests.security.test_broker import dies_with_a_will
from tests.security.test_retained import held

GREEDY: Final = ["app/#", "app/+/up/#", "app/+/down/#", "+/+/up/#", "+/#", "#", "homeassistant/#", "$SYS/#"]
HOME: Final = "homeassistant"


def client(package: Package | ClaimPackage, name: str, password: str, *, identifier: str | None = None) -> Client:
    """Return a client that learns whether a publication was refused."""
    return Client(
        package.mqtt_host,
        package.mqtt_port,
        username=name,
        password=password,
        identifier=identifier or name,
        protocol=aiomqtt.ProtocolVersion.V5,
        tls_context=ssl.create_default_context(cadata=package.ca_certificate),
        timeout=10,
    )


def device(package: Package) -> Client:
    return client(package, package.client_id, package.secret)


async def subscribe(wanting: aiomqtt.Client, *wanted: str) -> None:
    for topic in wanted:
        await wanting.subscribe(topic, qos=1)


async def read_until(reading: aiomqtt.Client, last: str) -> list[str]:
    """Return the topics of what comes before the first message on the topic `last`."""
    found: list[str] = []
    async with asyncio.timeout(30):
        async for message in reading.messages:
            if str(message.topic) == last:
                return found
            found.append(str(message.topic))
    raise AssertionError


@asynccontextmanager
async def home_assistant(stack: Stack) -> AsyncIterator[Client]:
    """A connection as Home Assistant, with an account as operations.md has it."""
    password = crypto.new_secret().get_secret_value()
    roles = [{"rolename": "other"}]
    await behind_our_back(stack, "createClient", HOME, password=password, roles=roles)
    try:
        endpoints = stack.endpoints
        async with Client(
            endpoints.mqtt_host,
            endpoints.mqtt_port,
            username=HOME,
            password=password,
            identifier=f"test-{uuid4().hex}",
            protocol=aiomqtt.ProtocolVersion.V5,
            timeout=10,
        ) as connection:
            yield connection
    finally:
        await behind_our_back(stack, "deleteClient", HOME)


async def test_a_device_and_a_consumer_talk_on_the_devices_own_topics(fleet: Fleet, system: System) -> None:
    package = await fleet.device()
    up, down = (f"app/{package.client_id}/{way}/room/temperature" for way in ("up", "down"))
    profile = await new_account(fleet, system, Role.APP)
    async with device(package) as ours, bare(profile) as consumer:
        await subscribe(ours, f"app/{package.client_id}/down/#")
        await subscribe(consumer, "app/+/up/#")
        assert await publish(ours, up, b"21.5") < NOT_AUTHORIZED
        assert await publish(consumer, down, b"20") < NOT_AUTHORIZED
        assert await read_until(consumer, up) == []
        assert await read_until(ours, down) == []


async def test_a_device_reads_nothing_of_anothers_own_traffic(fleet: Fleet, system: System) -> None:
    victim, evil = await fleet.device(), await fleet.device()
    profile = await new_account(fleet, system, Role.APP)
    last = f"app/{evil.client_id}/down/last"
    async with device(victim) as ours, device(evil) as thief, bare(profile) as consumer:
        assert await ours.deliver(f"app/{victim.client_id}/up/before", b"secret", retain=True) < NOT_AUTHORIZED
        await subscribe(thief, f"app/{victim.client_id}/#", f"app/{victim.client_id}/up/before", *GREEDY)
        await subscribe(ours, f"app/{victim.client_id}/down/#")
        await publish(ours, f"app/{victim.client_id}/up/now", b"secret")
        await publish(consumer, f"app/{victim.client_id}/down/now", b"secret")
        await publish(consumer, last, b"for the thief itself")
        assert await read_until(thief, last) == []


async def test_nobody_joins_a_shared_subscription_of_it(fleet: Fleet, system: System) -> None:
    evil, profile = await fleet.device(), await new_account(fleet, system, Role.APP)
    async with device(evil) as thief, bare(profile) as consumer:
        for wanting in (thief, consumer):
            for wanted in ("app/#", "app/+/up/#", f"app/{evil.client_id}/down/#", f"{PREFIX}/d/+/up/#", "#"):
                (code,) = await wanting.subscribe(f"$share/group/{wanted}", qos=1)
                assert getattr(code, "is_failure", False), wanted


def foreign(victim: Package, evil: Package) -> list[str]:
    """Return topics of the own traffic and of Home Assistant where the evil device may not write."""
    return [
        f"app/{victim.client_id}/up/temperature",
        f"app/{victim.client_id}/down/heating",
        f"app/{evil.client_id}/down/heating",
        f"app/{evil.client_id}",
        f"app/{evil.client_id}/UP/x",
        f"app//{evil.client_id}/up/x",
        "app/up/x",
        f"{HOME}/sensor/{victim.client_id}/temperature/config",
        f"{HOME}/device/{victim.client_id}/temperature/config",
        f"{HOME}/device/{victim.client_id}/config",
        f"{HOME}/device/{evil.client_id}/config",
        f"{HOME}/sensor/{evil.client_id}/config",
        f"{HOME}/sensor/{evil.client_id}/temperature/state",
        f"{HOME}/sensor/{evil.client_id}/a/b/config",
        f"{HOME}/sensor/temperature/{evil.client_id}/config",
        f"{HOME}/status",
        f"{PREFIX}/homeassistant/{evil.client_id}/update",
        f"{PREFIX}/app/{evil.client_id}/up/x",
    ]


@pytest.mark.parametrize("retain", [False, True], ids=["not retained", "retained"])
async def test_a_device_writes_on_no_own_topic_of_another_and_on_none_of_home_assistants(
    fleet: Fleet, *, retain: bool
) -> None:
    victim, evil = await fleet.device(), await fleet.device()
    async with device(evil) as thief:
        for topic in foreign(victim, evil):
            assert await thief.deliver(topic, b"forged", retain=retain) == NOT_AUTHORIZED, topic


async def test_a_will_goes_only_to_the_devices_own_topics(fleet: Fleet, system: System, stack: Stack) -> None:
    victim, evil = await fleet.device(), await fleet.device()
    profile = await new_account(fleet, system, Role.APP)
    own = f"app/{evil.client_id}/up/gone"
    async with (
        bare(profile) as consumer,
        device(victim) as ours,
        account_client(stack.endpoints, "svc-registry") as registry,
        home_assistant(stack) as home,
    ):
        await subscribe(consumer, "app/+/up/#")
        await subscribe(ours, f"app/{victim.client_id}/down/#")
        await subscribe(home, "#")
        await subscribe(registry, "app/#", f"{HOME}/#")
        for topic in foreign(victim, evil):
            await dies_with_a_will(evil, aiomqtt.Will(topic, b"forged", qos=1, retain=True))
        await dies_with_a_will(evil, aiomqtt.Will(own, b"gone", qos=1, retain=True))
        last = f"app/{victim.client_id}/down/last"
        await publish(consumer, last, b"")
        assert await read_until(ours, last) == []
        for witness in (consumer, registry, home):
            assert not set(await read_until(witness, own)) & set(foreign(victim, evil))
    retained = set(await held(stack, evil, "app/#", f"{HOME}/#"))
    assert own in retained
    assert not retained & set(foreign(victim, evil))


async def test_a_consumer_has_nothing_of_the_protocol(fleet: Fleet, system: System, stack: Stack) -> None:
    package, forged = await fleet.device(), f"a{uuid4().hex[:10]}"
    profile = await new_account(fleet, system, Role.APP)
    create = json.dumps({"commands": [{"command": "createClient", "username": forged, "password": "x" * 43}]})
    online = topics.STATUS.encode(messages.Status(online=True))
    async with bare(profile) as thief, RawDevice(package) as raw:
        for account in (profile.account, BUILT_IN):
            for operation in OPERATIONS.values():
                assert await publish(thief, operation.topic.of(account=account)) == NOT_AUTHORIZED, operation.name
        for topic in (
            *(topic.of(client_id=package.client_id) for topic in (topics.STATUS, topics.CONFIG, topics.COMMAND)),
            topics.STATUS.of(client_id=profile.account),
            topics.EVENT.of(noun="forged", verb="it"),
            topics.SERVICE_STATUS.of(name="registry", instance="forged"),
            topics.CLAIM_REQUEST.of(claim_id=profile.account),
            admin.REPLY.of(account=BUILT_IN, client_id="x"),
            f"app/{package.client_id}/up/forged",
            f"app/{profile.account}/up/forged",
            f"{HOME}/status",
            f"{HOME}/sensor/{package.client_id}/x/config",
            f"{HOME}/sensor/{profile.account}/x/config",
            CONTROL,
        ):
            assert await publish(thief, topic, create.encode()) == NOT_AUTHORIZED, topic
        await subscribe(
            thief, *GREEDY, f"{PREFIX}/#", f"{PREFIX}/events/#", f"{PREFIX}/d/+/up/status", "$CONTROL/#"
        )
        await raw.client.publish(topics.STATUS.of(client_id=package.client_id), online, qos=1, retain=True)
        await fleet.until(package, lambda view: view.online)
        await fleet.ask(admin.CONFIG_SET, device=package.client_id, overrides={"secret": "not for consumers"})
        await raw.receive(topics.CONFIG)
        last = f"app/{package.client_id}/up/last"
        await raw.client.publish(last, b"", qos=1)
        assert {topic for topic in await read_until(thief, last) if not topic.startswith("app/")} == set()
    assert forged not in await broker_accounts(stack.endpoints)


@pytest.mark.parametrize("kind", ["a claim", "recovery"])
async def test_no_account_that_many_know_has_own_traffic_of_its_name(
    fleet: Fleet, system: System, stack: Stack, kind: str
) -> None:
    claim, public = await new_claim(fleet), (RECOVERY[0], RECOVERY[0])
    name, password = (claim.account, claim.password) if kind == "a claim" else public
    answers = {
        "a claim": topics.CLAIM_ANSWER.of(claim_id=name, uid=name),
        "recovery": topics.RECOVER_ANSWER.of(account=name, nonce="last"),
    }
    profile = await new_account(fleet, system, Role.APP)
    async with (
        client(claim, name, password) as stranger,
        bare(profile) as consumer,
        account_client(stack.endpoints, "svc-registry") as registry,
    ):
        for topic in (f"app/{name}/up/x", f"app/{name}/up", f"{HOME}/sensor/{name}/x/config"):
            for retain in (False, True):
                assert await stranger.deliver(topic, b"forged", retain=retain) == NOT_AUTHORIZED, topic
        await subscribe(stranger, f"app/{name}/down/#", *GREEDY, answers[kind])
        await publish(consumer, f"app/{name}/down/x", b"secret")
        await registry.publish(answers[kind], b"", qos=1)
        assert await read_until(stranger, answers[kind]) == []


async def test_home_assistant_finds_a_devices_own_entities_and_uses_its_topics(fleet: Fleet, stack: Stack) -> None:
    package, other = await fleet.device(), await fleet.device()
    name = package.client_id
    entity = {"name": "Temperature", "state_topic": f"app/{name}/up/t", "device": {"identifiers": [name]}}
    found = [f"{HOME}/sensor/{name}/temperature/config", f"{HOME}/device/{name}/climate/config"]
    async with device(package) as ours, home_assistant(stack) as home:
        await subscribe(ours, f"app/{name}/down/#")
        for topic in found:
            assert await ours.deliver(topic, json.dumps(entity).encode(), retain=True) < NOT_AUTHORIZED
        await subscribe(home, f"{HOME}/+/+/+/config", f"app/{name}/up/t")
        assert await publish(ours, f"app/{name}/up/t", b"21.5") < NOT_AUTHORIZED
        assert set(found) <= set(await read_until(home, f"app/{name}/up/t"))
        assert await publish(home, f"app/{name}/down/set", b"20") < NOT_AUTHORIZED
        assert await read_until(ours, f"app/{name}/down/set") == []
        for topic in (
            found[0],
            f"app/{name}/up/t",
            topics.COMMAND.of(client_id=other.client_id),
            topics.STATUS.of(client_id=name),
            admin.DEVICE_REMOVE.topic.of(account=BUILT_IN),
            admin.DEVICE_REMOVE.topic.of(account=HOME),
        ):
            assert await publish(home, topic) == NOT_AUTHORIZED, topic


@pytest.mark.parametrize("end", ["disabled", "removed"])
async def test_what_a_device_left_in_its_own_traffic_goes_when_it_is_refused(
    fleet: Fleet, stack: Stack, end: str
) -> None:
    package, other = await fleet.device(), await fleet.device()
    for each in (package, other):
        async with device(each) as ours:
            for number in range(50):
                await ours.deliver(f"app/{each.client_id}/up/{number}/x", b"mine", retain=True)
            await ours.deliver(f"{HOME}/sensor/{each.client_id}/x/config", b"{}", retain=True)
    if end == "disabled":
        await fleet.ask(admin.DEVICE_UPDATE, device=package.client_id, enabled=False)
    else:
        await fleet.ask(admin.DEVICE_REMOVE, device=package.client_id)
    left = [topic.split("/") for topic in await held(stack, package, "app/#", f"{HOME}/+/+/+/config")]
    assert sum(package.client_id in levels for levels in left) == (1 if end == "disabled" else 0)
    assert sum(other.client_id in levels for levels in left) == 51


async def test_an_update_gives_the_broker_of_an_older_version_its_rights_and_drops_no_device(
    fleet: Fleet, system: System, stack: Stack
) -> None:
    claim, package = await new_claim(fleet), await fleet.device()
    for kind in ("publishClientSend", "publishClientReceive"):
        for prefix in ("app", HOME):
            topic = f"{prefix}/#"
            await behind_our_back(stack, "removeRoleACL", "", rolename="claim", acltype=kind, topic=topic)
    async with RawDevice(package) as raw:
        async with client(claim, claim.account, claim.password) as stranger:
            assert await stranger.deliver(f"app/{claim.account}/up/x", b"") < NOT_AUTHORIZED
        await system.restart("registry")
        await logged(system.services["registry"], "registry.reconciled")
        async with client(claim, claim.account, claim.password) as stranger:
            assert await stranger.deliver(f"app/{claim.account}/up/x", b"") == NOT_AUTHORIZED
        assert not raw.reading.done()


async def test_a_device_that_fills_the_broker_with_retained_messages_is_noticed_and_cleared(
    fleet: Fleet, stack: Stack
) -> None:
    package = await fleet.device()
    devices = (await fleet.ask(admin.DOCTOR)).devices
    many = SPARE + PER_DEVICE * (devices + 1)

    async def problems() -> list[str]:
        return [it.problem for it in (await fleet.ask(admin.DOCTOR)).findings if it.subject == "broker"]

    assert await problems() == []
    async with device(package) as evil:
        for number in range(many):
            evil.post(f"app/{package.client_id}/up/{number}", b"mine", qos=0, retain=True)
            if number % 100 == 0:
                await evil.deliver(f"app/{package.client_id}/up/{number}", b"mine", retain=True)
        await evil.deliver(f"app/{package.client_id}/up/last", b"mine", retain=True)
        (found,) = await until(problems)
    assert "retained messages" in found
    await fleet.ask(admin.DEVICE_UPDATE, device=package.client_id, enabled=False)
    assert not any(package.client_id in topic for topic in await held(stack, package, "app/#") if "app/" in topic)
    await until(problems, lambda left: left == [])
