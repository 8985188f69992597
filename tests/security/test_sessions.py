"""Whoever connects under a device's MQTT client id takes over its session, and must win nothing by it."""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from typing import Final

import aiomqtt
import pytest

from dev.credentials import claim_client
from dev.fleet import Fleet
from dev.system import System
from shared.protocol import admin
from shared.protocol.admin import Package, Role
from shared.protocol.topics import PREFIX
from tests.claims import new_claim
from tests.integration.test_accounts import new_account
from tests.integration.test_commands import answered, waits_in_the_broker

THIEVES: Final = ["a viewer", "a viewer's page", "a claim"]


async def test_a_public_account_takes_nobodys_session(fleet: Fleet) -> None:
    package = await fleet.device()
    recovery = package.recovery
    assert recovery is not None
    stranger = aiomqtt.Client(
        package.mqtt_host,
        recovery.port,
        username=recovery.account,
        password=recovery.password,
        identifier=package.client_id,
        tls_context=ssl.create_default_context(cadata=package.ca_certificate),
    )
    with pytest.raises(aiomqtt.MqttError, match="Not authorized"):
        async with stranger:
            pass


@asynccontextmanager
async def thief(
    fleet: Fleet, system: System, kind: str, package: Package, *, clean: bool
) -> AsyncIterator[aiomqtt.Client]:
    """Connect under a device's client id, in a new session if `clean`, else in that of the device."""
    if kind == "a claim":
        async with claim_client(await new_claim(fleet), package.client_id, clean=clean) as client:
            yield client
        return
    profile = await new_account(fleet, system, Role.VIEWER)
    is_page = kind == "a viewer's page"
    async with aiomqtt.Client(
        profile.host,
        system.stack.endpoints.web_mqtt_port if is_page else profile.port,
        transport="websockets" if is_page else "tcp",
        tls_context=ssl.create_default_context(cadata=package.ca_certificate) if is_page else None,
        username=profile.account,
        password=profile.password.get_secret_value(),
        identifier=package.client_id,
        protocol=aiomqtt.ProtocolVersion.V5,
        clean_start=clean,
    ) as client:
        yield client


@pytest.mark.parametrize("clean", [True, False], ids=["a new session", "the device's session"])
@pytest.mark.parametrize("kind", THIEVES)
async def test_who_takes_a_devices_session_reads_nothing_and_takes_no_command_from_it(
    fleet: Fleet, system: System, kind: str, *, clean: bool
) -> None:
    package = await fleet.device()
    async with fleet.powered(package):
        await fleet.until(package, lambda view: view.online)
    await fleet.until(package, lambda view: not view.online)
    command_id = await waits_in_the_broker(fleet, package)
    async with thief(fleet, system, kind, package, clean=clean) as client:
        await client.subscribe(f"{PREFIX}/d/{package.client_id}/down/#", qos=1)
        await client.unsubscribe("nothing")
        assert len(client.messages) == 0
    async with fleet.powered(package):
        async with asyncio.timeout(30):
            assert (await answered(fleet, package, command_id)).outcome == "ok"


@pytest.mark.parametrize("kind", THIEVES)
async def test_a_device_whose_session_was_taken_comes_back_and_does_what_it_is_told(
    fleet: Fleet, system: System, kind: str
) -> None:
    package = await fleet.device()
    async with fleet.powered(package):
        await fleet.until(package, lambda view: view.online)
        with suppress(aiomqtt.MqttError):
            async with thief(fleet, system, kind, package, clean=True) as client:
                await anext(client.messages)
        sent = await fleet.ask(admin.COMMAND_SEND, device=package.client_id, name="identify")
        assert (await answered(fleet, package, sent.commands[0].command_id)).outcome == "ok"
