"""What an evil device, or the thief of an admin's profile, tries at the broker; a victim must not notice.

More of such attempts stand in tests/integration/test_access.py.
"""

from __future__ import annotations

import socket
from contextlib import suppress
from datetime import UTC, datetime, timedelta
from typing import Final
from uuid import uuid4

import aiomqtt
import pytest

from dev.credentials import account_client, device_client
from dev.fleet import Fleet
from dev.stack import Stack
from shared.protocol import admin, messages, topics
from shared.protocol.admin import Package
from shared.protocol.topics import PREFIX
from tests.raw import RawClient, RawDevice

FORGED: Final = "6.6.6"
SAYING: Final = topics.STATUS.encode(messages.Status(online=True, firmware_version=FORGED))


def offer() -> bytes:
    """Return an offer of a rotation that nobody has begun."""
    deadline = datetime.now(UTC) + timedelta(hours=1)
    forged = messages.RotationOffer(rotation_id=uuid4(), generation=9, current_generation=1, deadline=deadline)
    return topics.ROTATION_OFFER.encode(forged)


@pytest.mark.parametrize("session_s", [0, 600], ids=["a new session", "its old session"])
async def test_a_device_that_states_anothers_client_id_takes_nothing_from_it(fleet: Fleet, session_s: int) -> None:
    victim, evil = await fleet.device(), await fleet.device()
    async with RawDevice(victim) as device:
        async with device_client(evil, session_s=session_s, identifier=victim.client_id) as thief:
            await thief.subscribe(f"{PREFIX}/d/{victim.client_id}/#", qos=1)
            await fleet.ask(admin.CONFIG_SET, device=victim.client_id, overrides={"secret": "of the victim"})
            await device.receive(topics.CONFIG)
            await thief.unsubscribe("nothing")
            assert len(thief.messages) == 0
        assert not device.reading.done()


async def dies_with_a_will(evil: Package, will: aiomqtt.Will) -> None:
    """Connect with a will, and break the connection, so that the broker publishes it if it may."""
    with suppress(aiomqtt.MqttError):
        async with device_client(evil, will=will) as dying:
            dying._client.socket().shutdown(socket.SHUT_RDWR)  # type: ignore[union-attr]
            await anext(dying.messages)


async def test_a_will_goes_only_where_its_device_may_write(fleet: Fleet, stack: Stack) -> None:
    victim, evil = await fleet.device(), await fleet.device()
    elsewhere = {
        topics.STATUS.of(client_id=victim.client_id): SAYING,
        topics.ROTATION_OFFER.of(client_id=victim.client_id): offer(),
        topics.ROTATION_OFFER.of(client_id=evil.client_id): offer(),
        topics.EVENT.of(noun="forged", verb="it"): b"{}",
        topics.SERVICE_STATUS.of(name="registry", instance="forged"): b"{}",
        admin.MODEL_LIST.topic.of(account="admin"): b"{}",
    }
    async with (
        RawDevice(victim) as device,
        RawClient(account_client(stack.endpoints, "svc-registry"), f"{PREFIX}/#") as registry,
        RawClient(account_client(stack.endpoints, "admin"), f"{PREFIX}/#") as watcher,
    ):
        for topic, payload in elsewhere.items():
            await dies_with_a_will(evil, aiomqtt.Will(topic, payload, qos=1, retain=True))
        own = topics.STATUS.of(client_id=evil.client_id)
        await dies_with_a_will(evil, aiomqtt.Will(own, SAYING, qos=1, retain=True))
        await fleet.until(evil, lambda view: view.firmware_version == FORGED)
        assert not set(elsewhere) & (device.addresses | registry.addresses | watcher.addresses)
    assert (await fleet.show(victim)).firmware_version is None


@pytest.mark.parametrize("retain", [False, True], ids=["not retained", "retained"])
async def test_nobody_but_the_services_can_offer_a_rotation(fleet: Fleet, stack: Stack, *, retain: bool) -> None:
    victim, evil = await fleet.device(), await fleet.device()
    async with RawDevice(victim) as device:
        for client in (device_client(evil), account_client(stack.endpoints, "admin")):
            async with client as thief:
                for package in (victim, evil):
                    topic = topics.ROTATION_OFFER.of(client_id=package.client_id)
                    await thief.publish(topic, offer(), qos=1, retain=retain)
        await fleet.ask(admin.CONFIG_SET, device=victim.client_id, overrides={"x": 1})
        await device.receive(topics.CONFIG)
        assert not device.received(topics.ROTATION_OFFER)
    for package in (victim, evil):
        async with RawDevice(package) as device:
            question = messages.ConfigGet(request_id="1")
            await device.ask(topics.CONFIG_GET, question, topics.CONFIG)
            assert not device.received(topics.ROTATION_OFFER)


async def test_a_stolen_admin_profile_reads_no_secret_of_a_rotation(fleet: Fleet, stack: Stack) -> None:
    package = await fleet.device()
    async with RawClient(account_client(stack.endpoints, "admin"), f"{PREFIX}/#") as thief:
        for wanted in (
            "#",
            "$SYS/#",
            f"{PREFIX}/d/+/down/#",
            "$CONTROL/#",
            "$CONTROL/dynamic-security/v1/response",
        ):
            await thief.client.subscribe(wanted, qos=1)
        async with fleet.powered(package):
            await fleet.until(package, lambda view: view.online)
            await fleet.ask(admin.ROTATION_START, device=package.client_id)
            await fleet.seen(package, "rotation/completed")
        await thief.receive(topics.EVENT)
        allowed = ("events/", "services/", f"d/{package.client_id}/up/status", "replies/admin/")
        read = {address.removeprefix(f"{PREFIX}/") for address in thief.addresses}
        foreign = {address for address in read if not address.startswith(allowed) and "/up/status" not in address}
    assert not foreign
