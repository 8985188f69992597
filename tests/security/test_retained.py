"""What a device leaves retained in the broker: where it may, and that it goes when the device is refused."""

from __future__ import annotations

import asyncio
from typing import Any, Final

import pytest

from deploy.broker import render_acl
from dev.credentials import account_client
from dev.fleet import Fleet
from dev.stack import Stack
from shared.protocol import admin, messages, topics
from shared.protocol.admin import Package
from shared.protocol.topics import PREFIX, Topic
from tests.raw import RawDevice

KNOWN: Final[list[Topic[Any]]] = [topics.LOG, topics.CONFIG_REPORT, topics.FIRMWARE_CHUNK]
INVENTED: Final = [
    "diary/{number}",
    "log/{number}",
    "status/{number}",
    "config/{number}",
    "rotation/ack/{number}",
    "coredump/chunk/{number}",
    "coredump/chunk/ab/{number}",
    "coredump/chunk/ab/0/{number}",
    "{number}",
    "",
]
MORE_THAN_THE_BROKER_QUEUES: Final = 60
MIB: Final = 1024 * 1024


async def held(stack: Stack, package: Package, *others: str) -> dict[str, bytes]:
    """Return what the broker holds retained below a device's topics, and on those that match `others`."""
    found: dict[str, bytes] = {}
    async with account_client(stack.endpoints, "svc-registry") as client:
        for wanted in (f"{PREFIX}/d/{package.client_id}/#", *others):
            await client.subscribe(wanted, qos=1)
        # What is retained comes before what is said now.
        marker = topics.EVENT.of(noun="test", verb=package.client_id)
        await client.subscribe(marker, qos=1)
        await client.publish(marker, b"{}", qos=1)
        async with asyncio.timeout(60):
            async for message in client.messages:
                if str(message.topic) == marker:
                    return found
                assert isinstance(message.payload, bytes)
                if message.retain:  # and not said just now
                    found[str(message.topic)] = message.payload
    raise AssertionError


async def test_a_device_retains_nothing_on_topics_that_it_invents(fleet: Fleet, stack: Stack) -> None:
    package = await fleet.device()
    own = f"{PREFIX}/d/{package.client_id}/up"
    log = topics.LOG.of(client_id=package.client_id)
    async with RawDevice(package) as device:
        for number in range(10):
            for invented in INVENTED:
                topic = f"{own}/{invented.format(number=number)}"
                await device.client.publish(topic, bytes(1024), qos=1, retain=True)
        await device.client.publish(own, b"mine", qos=1, retain=True)
        for text in (b"first", b"second"):
            await device.client.publish(log, text, qos=1, retain=True)
    assert await held(stack, package) == {log: b"second"}


def invented_within(pattern: str) -> set[str]:
    """Return topics that match a pattern of the ACL file, as many as a device has names for."""
    levels = pattern.replace("+", "{number}").replace("#", "{number}/{number}")
    return {levels.format(number=number) for number in range(10)}


async def test_of_all_topics_of_the_protocol_a_device_retains_one_message_of_each_kind(
    fleet: Fleet, stack: Stack
) -> None:
    package = await fleet.device()
    declared = {it.of(client_id=package.client_id) for it in topics.TOPICS.values() if "/up/" in it.template}
    claim = topics.CLAIM_REQUEST.of(claim_id=package.client_id)
    rules = [rule.split(" ", 2) for rule in render_acl().splitlines() if rule.startswith("pattern ")]
    rules = [rule for rule in rules if rule[2].startswith(PREFIX)]
    patterns = [pattern.replace("%u", package.client_id) for _, access, pattern in rules if access != "read"]
    async with RawDevice(package) as device:
        for topic in set().union(*map(invented_within, patterns)):
            await device.client.publish(topic, b"mine", qos=1, retain=True)
    assert set(await held(stack, package, claim)) == {*declared, claim}


@pytest.mark.parametrize("end", ["disabled", "removed"])
async def test_what_a_device_left_retained_goes_when_it_is_refused(fleet: Fleet, stack: Stack, end: str) -> None:
    package = await fleet.device()
    own = f"{PREFIX}/d/{package.client_id}/up"
    status = topics.STATUS.of(client_id=package.client_id)
    async with RawDevice(package) as device:
        online = topics.STATUS.encode(messages.Status(online=True))
        await device.client.publish(status, online, qos=1, retain=True)
        await fleet.until(package, lambda view: view.online)
        for topic in KNOWN:
            await device.client.publish(topic.of(client_id=package.client_id), b"mine", qos=1, retain=True)
        # By a device of a time when it could write on all topics below `up`.
        async with account_client(stack.endpoints, "svc-registry") as registry:
            for number in range(MORE_THAN_THE_BROKER_QUEUES):
                await registry.publish(f"{own}/invented/{number}", bytes(2 * MIB - 200), qos=1, retain=True)
        if end == "disabled":
            await fleet.ask(admin.DEVICE_UPDATE, device=package.client_id, enabled=False)
            assert await held(stack, package) == {status: topics.STATUS.encode(messages.Status(online=False))}
        else:
            await fleet.ask(admin.DEVICE_REMOVE, device=package.client_id)
            assert await held(stack, package) == {}


async def test_a_device_that_is_enabled_again_says_that_it_is_there(fleet: Fleet, stack: Stack) -> None:
    package = await fleet.device()
    async with fleet.powered(package):
        await fleet.until(package, lambda view: view.online)
        await fleet.ask(admin.DEVICE_UPDATE, device=package.client_id, enabled=False)
        await fleet.until(package, lambda view: not view.online)
        await fleet.ask(admin.DEVICE_UPDATE, device=package.client_id, enabled=True)
        await fleet.until(package, lambda view: view.online)
        (status,) = (await held(stack, package)).values()
        assert topics.STATUS.decode(status).online
