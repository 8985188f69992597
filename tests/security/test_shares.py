"""Who joins a shared subscription of the services takes messages away from them: nobody else may."""

from __future__ import annotations

import asyncio
from typing import Final
from uuid import uuid4

import aiomqtt
import pytest

from dev.credentials import account_client, behind_our_back, claim_client, device_client
from dev.fleet import Fleet
from dev.stack import Stack
from dev.system import System
from shared import crypto
from shared.protocol import messages, topics
from shared.protocol.admin import Role
from shared.protocol.topics import PREFIX
from tests.claims import new_claim
from tests.integration.test_accounts import new_account
from tests.raw import RawDevice

QUESTIONS: Final = 10
KINDS: Final = ["admin", "svc-accounts", "a viewer", "a device", "a claim", "made by hand"]
WANTED: Final = [
    topics.CONFIG_GET.filter,
    f"{PREFIX}/d/+/up/#",
    f"{PREFIX}/+/+/up/config/get",
    f"{PREFIX}/#",
    "+/v1/d/+/up/config/get",
    "#",
]


async def client_of(kind: str, fleet: Fleet, stack: Stack, system: System) -> aiomqtt.Client:
    """Return a client with an account of this kind."""
    if kind == "a device":
        return device_client(await fleet.device())
    if kind == "a claim":
        return claim_client(await new_claim(fleet), f"test-{uuid4().hex}")
    if kind not in ("a viewer", "made by hand"):
        return account_client(stack.endpoints, kind)
    if kind == "a viewer":
        profile = await new_account(fleet, system, Role.VIEWER)
        name, password = profile.account, profile.password
    else:
        name, password = f"hand{uuid4().hex[:8]}", crypto.new_secret()
        await behind_our_back(stack, "createClient", name, password=password.get_secret_value())
    return aiomqtt.Client(
        stack.endpoints.mqtt_host,
        stack.endpoints.mqtt_port,
        username=name,
        password=password.get_secret_value(),
        identifier=f"test-{uuid4().hex}",
        protocol=aiomqtt.ProtocolVersion.V5,
    )


@pytest.mark.parametrize("kind", KINDS)
async def test_nobody_takes_messages_away_from_the_services(
    fleet: Fleet, stack: Stack, system: System, kind: str
) -> None:
    package = await fleet.device()
    async with await client_of(kind, fleet, stack, system) as thief, RawDevice(package) as device:
        refused = set()
        for group in ("registry", "firmware", "other"):
            for wanted in WANTED:
                (code,) = await thief.subscribe(f"$share/{group}/{wanted}", qos=1)
                refused.add(getattr(code, "is_failure", False))
        # No role has been given to what was made a moment ago.
        assert refused == ({False} if kind == "made by hand" else {True})
        for number in range(QUESTIONS):
            await device.send(topics.CONFIG_GET, messages.ConfigGet(request_id=f"{number}"))
            async with asyncio.timeout(10):
                assert (await device.wait(topics.CONFIG)).request_id == f"{number}"


async def test_an_account_made_by_hand_is_refused_with_the_role_for_it(stack: Stack) -> None:
    name, password = f"hand{uuid4().hex[:8]}", crypto.new_secret().get_secret_value()
    await behind_our_back(stack, "createClient", name, password=password, roles=[{"rolename": "other"}])
    async with aiomqtt.Client(
        stack.endpoints.mqtt_host,
        stack.endpoints.mqtt_port,
        username=name,
        password=password,
        protocol=aiomqtt.ProtocolVersion.V5,
    ) as client:
        for wanted in WANTED:
            (code,) = await client.subscribe(f"$share/registry/{wanted}", qos=1)
            assert getattr(code, "is_failure", False), wanted
