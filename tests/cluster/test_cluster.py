"""The main jobs on a real cluster of two nodes: devices on one of them, services and admin on the other."""

from __future__ import annotations

import contextlib
from uuid import uuid4

import aiomqtt
import pytest

from dev import credentials
from dev.fleet import Fleet
from dev.waiting import until
from shared.auth import client_token
from shared.protocol import admin, topics
from shared.protocol.admin import Package
from shared.protocol.messages import Config, ConfigGet, Status
from tests.cluster.conftest import Ground
from tests.faults.promise import survives_a_power_cut
from tests.raw import RawClient


async def token_of(package: Package) -> str:
    token = await credentials.keycloak_token(package)
    assert token is not None
    return token


def raw(package: Package, token: str) -> RawClient:
    client = credentials.device_client(package, token)
    return RawClient(client, f"mdm/v1/d/{package.client_id}/down/#", client_id=package.client_id)


async def test_a_device_on_one_node_is_served_by_services_on_the_other(fleet: Fleet) -> None:
    package = await fleet.device()
    assert package.mqtt_auth == "token"
    async with fleet.powered(package):
        await fleet.until(package, lambda view: view.online)
        await fleet.ask(admin.CONFIG_SET, device=package.client_id, overrides={"rate": 5})
        await fleet.until(package, lambda view: view.config_version_reported == view.config_version == 2)
    await fleet.until(package, lambda view: not view.online)


async def test_a_device_gets_a_new_secret_and_the_old_one_gets_no_more_tokens(fleet: Fleet) -> None:
    package = await fleet.device()
    async with fleet.powered(package):
        await fleet.until(package, lambda view: view.online)
        await fleet.ask(admin.ROTATION_START, device=package.client_id)
        await fleet.seen(package, "rotation/completed")
        assert (await fleet.show(package)).secret_generation == 2
    assert not await credentials.keycloak_accepts(package)


@pytest.mark.parametrize("point", ["publish.rotation.stored:after", "publish.rotation.ack:before"])
async def test_a_device_whose_power_is_cut_in_a_rotation_comes_back(fleet: Fleet, point: str) -> None:
    await survives_a_power_cut(fleet, await fleet.device(), point)


async def test_a_disabled_device_is_cut_off_at_once_and_comes_back_when_it_is_enabled(fleet: Fleet) -> None:
    package = await fleet.device()
    async with fleet.powered(package):
        await fleet.until(package, lambda view: view.online)
        await fleet.ask(admin.DEVICE_UPDATE, device=package.client_id, enabled=False)
        await fleet.until(package, lambda view: not view.online)
        assert not await credentials.keycloak_accepts(package)
        await fleet.ask(admin.DEVICE_UPDATE, device=package.client_id, enabled=True)
        await fleet.until(package, lambda view: view.online)


async def test_nobody_gets_in_without_a_token_of_its_own(fleet: Fleet) -> None:
    package, other = await fleet.device(), await fleet.device()
    token = await token_of(package)
    async with credentials.device_client(package, token):
        pass
    for client in (
        credentials.device_client(package),
        credentials.device_client(other, token),
        credentials.device_client(package, token[:-4] + "AAAA"),
        credentials.device_client(package, token, identifier=other.client_id),
    ):
        with pytest.raises(aiomqtt.MqttError):
            async with client:
                pass


async def test_a_device_reads_only_its_own_topics(fleet: Fleet) -> None:
    package, other = await fleet.device(), await fleet.device()
    async with credentials.device_client(package, await token_of(package)) as client:
        for wanted, granted in (
            (topics.CONFIG.of(client_id=package.client_id), True),
            (f"mdm/v1/d/{package.client_id}/down/#", True),
            (f"app/{package.client_id}/down/#", True),
            (f"app/{other.client_id}/down/#", False),
            ("app/+/up/#", False),
            ("app/#", False),
            (topics.CONFIG.of(client_id=other.client_id), False),
            ("mdm/v1/d/+/down/#", False),
            ("mdm/#", False),
            ("#", False),
            ("$SYS/#", False),
            (f"$share/thieves/mdm/v1/d/{other.client_id}/down/#", False),
            ("$share/registry/mdm/v1/d/+/up/config/get", False),
        ):
            [code] = await client.subscribe(wanted, qos=1)
            assert getattr(code, "is_failure", None) is not granted, wanted


async def test_a_device_writes_only_its_own_topics(fleet: Fleet) -> None:
    package, other = await fleet.device(), await fleet.device()
    async with (
        raw(other, await token_of(other)) as victim,
        credentials.device_client(package, await token_of(package)) as client,
    ):
        await client.publish(topics.CONFIG.of(client_id=other.client_id), b"forged", qos=1)
        assert (await victim.ask(topics.CONFIG_GET, ConfigGet(request_id=uuid4().hex), topics.CONFIG)).version == 1
        assert not victim.received(topics.CONFIG)


@pytest.mark.xfail(strict=True, reason="RMQTT 0.24.0 publishes a will without asking its rules")
async def test_a_will_goes_only_where_its_device_may_write(fleet: Fleet) -> None:
    evil, other = await fleet.device(), await fleet.device()
    own, forged = (
        Status(online=True, firmware_version="6.6.6"),
        Config(version=9, document={}, secret_generation=1),
    )
    async with raw(other, await token_of(other)) as victim:
        for topic, payload in (
            (topics.CONFIG.of(client_id=other.client_id), topics.CONFIG.encode(forged)),
            (topics.STATUS.of(client_id=evil.client_id), topics.STATUS.encode(own)),
        ):
            will = aiomqtt.Will(topic, payload, qos=1, retain=True)
            client = credentials.device_client(evil, await token_of(evil), will=will)
            with contextlib.suppress(aiomqtt.MqttError):
                async with client:
                    client._client._sock_close()
        await fleet.until(evil, lambda view: view.firmware_version == own.firmware_version)
        assert not victim.received(topics.CONFIG)


async def test_a_request_is_taken_by_one_of_two_registries_on_two_nodes(fleet: Fleet, ground: Ground) -> None:
    package = await fleet.device()
    first, _ = ground.nodes.plan.nodes
    ground.system.start("registry", name="registry-2", MDM_MQTT_PORT=str(first.services_port))

    async def handled() -> int:
        names = ("registry", "registry-2")
        return sum(ground.system.counted(name, topics.CONFIG_GET.template)["handled"] for name in names)

    try:
        before = await handled()
        async with raw(package, await token_of(package)) as device:
            for _ in range(40):
                await device.send(topics.CONFIG_GET, ConfigGet(request_id=uuid4().hex))
                await device.receive(topics.CONFIG)
            assert not device.received(topics.CONFIG)
        # An answer is sent before it is counted.
        assert await until(handled, lambda count: count >= before + 40) == before + 40
    finally:
        ground.system.stop("registry-2")


async def test_what_is_retained_on_one_node_is_found_on_the_other(fleet: Fleet, ground: Ground) -> None:
    package = await fleet.device()
    async with fleet.powered(package):
        await fleet.until(package, lambda view: view.online)
        for node in ground.nodes.plan.nodes:
            profile = ground.nodes.profile(ground.system.stack)
            token = await client_token.password(profile.token_url, profile.account, profile.password)
            client = aiomqtt.Client(
                node.host,
                node.services_port,
                username=profile.account,
                password=token.get_secret_value(),
                identifier=f"test-{node.id}",
            )
            wanted = topics.STATUS.of(client_id=package.client_id)
            async with RawClient(client, wanted) as reader:
                assert (await reader.receive(topics.STATUS)).online


async def test_a_device_and_the_services_go_on_when_a_node_is_killed(fleet: Fleet, ground: Ground) -> None:
    """Last in this file: the other node is started again, and not waited for."""
    package = await fleet.device()
    first, second = ground.nodes.processes
    async with fleet.powered(package):
        await fleet.until(package, lambda view: view.online)
        for number, node in enumerate((first, second), start=2):
            node.kill()
            await fleet.ask(admin.CONFIG_SET, device=package.client_id, overrides={"rate": number})
            await fleet.until(package, lambda view: view.config_version_reported == view.config_version)
            assert (await fleet.show(package)).config_version == number
            node.start()
