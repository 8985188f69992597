"""A fleet that moves to brokers that check tokens: what holds on Mosquitto before, and in the services after.

The move itself, to a real cluster, is in tests/cluster.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from typing import Any

import pytest

from cli.client import AnswerError
from deploy import rmqtt
from dev import credentials
from dev.credentials import behind_our_back
from dev.fleet import Fleet
from dev.stack import Stack
from dev.system import SERVICES, System
from dev.waiting import PATIENCE_S
from device.options import Hooks, Options
from shared.auth.keycloak import unverified_claims
from shared.protocol import admin
from shared.protocol.admin import Package
from shared.protocol.topics import device_writes
from tests import token_door
from tests.faults.promise import survives_a_power_cut
from tests.integration.test_reconciler import examined

KNOCK = "knock-knock"
EITHER = Options(mqtt_auth="either", retry_s=0.5, backoff_min_s=0.1, backoff_max_s=0.5)


@pytest.fixture
async def behind_a_door(stack: Stack, system: System) -> AsyncIterator[None]:
    """All services and devices log in with tokens; what Mosquitto has as a device's password nobody else knows."""
    endpoints = stack.endpoints
    names = [f"svc-{service}" for service in SERVICES]
    realm_url = f"{endpoints.keycloak_url}/realms/{endpoints.realm}"
    async with (
        credentials.keycloak_admin(endpoints) as keycloak,
        token_door.opened(
            endpoints.mqtt_port, realm_url, lambda name: endpoints.accounts.get(name, KNOCK)
        ) as port,
        AsyncExitStack() as altered,
    ):
        path = f"/admin/realms/{endpoints.realm}/clients"
        made = [
            (await keycloak.post(path, json=rmqtt.client(name, endpoints.accounts[name]))).raise_for_status()
            for name in names
        ]
        settings: dict[str, Any] = {
            "MDM_BROKER_AUTH": "token",
            "MDM_MQTT_PORT": str(port),
            "MDM_MQTT_TOKEN_URL": f"{realm_url}/protocol/openid-connect/token",
            "MDM_DEVICE_MQTT_PORT": str(port),
            "MDM_DEVICE_MQTT_TLS": "false",
        }
        for service in SERVICES:
            await altered.enter_async_context(system.altered(service, **settings))
        yield
        for answer in made:
            (await keycloak.delete(answer.headers["location"])).raise_for_status()


async def newcomer(fleet: Fleet, stack: Stack) -> Package:
    """Return a new device, which Mosquitto lets in behind the door."""
    package = await fleet.device()
    account = {"password": KNOCK, "groups": [{"groupname": "devices"}], "clientid": package.client_id}
    await behind_our_back(stack, "createClient", package.client_id, **account)
    return package


@pytest.fixture
async def without_accounts(system: System) -> AsyncIterator[None]:
    async with system.altered("registry", MDM_BROKER_AUTH="token"):
        await system.compared()
        yield


async def test_a_token_says_what_its_device_may_do_in_a_broker(fleet: Fleet) -> None:
    package = await fleet.device()
    token = await credentials.keycloak_token(package)
    assert token is not None
    claims = unverified_claims(token)
    name = package.client_id
    assert (claims["azp"], claims["mqtt_client_id"]) == (name, name)
    up = [f"mdm/v1/d/{name}/up/{level}" for level in ("command/result", "config/get", "status")]
    up += [f"app/{name}/up/#", f"homeassistant/+/{name}/+/config"]
    assert [rule for rule in claims["acl"] if rule["topic"] not in set(device_writes(name)) - set(up)] == [
        *({"permission": "allow", "action": "publish", "topic": topic} for topic in up),
        {"permission": "allow", "action": "subscribe", "topic": f"mdm/v1/d/{name}/down/#"},
        {"permission": "allow", "action": "subscribe", "topic": f"app/{name}/down/#"},
        {"permission": "deny", "action": "all", "topic": "#"},
    ]


@pytest.mark.usefixtures("compared")
@pytest.mark.parametrize("older", ["without claims", "without own topics"])
async def test_a_client_of_an_older_version_gets_its_claims_and_keeps_its_secret(
    fleet: Fleet, stack: Stack, older: str
) -> None:
    package = await fleet.device()
    async with credentials.client_in_keycloak(stack.endpoints, package) as (http, path, client):
        for mapper in client["protocolMappers"]:
            if older == "without claims" and mapper["name"] in {"acl", "mqtt_client_id"}:
                (await http.delete(f"{path}/protocol-mappers/models/{mapper['id']}")).raise_for_status()
            if older == "without own topics" and mapper["name"] == "acl":
                rules = json.loads(mapper["config"]["claim.value"])
                known = [rule for rule in rules if rule["topic"].startswith(("mdm/", "#"))]
                mapper["config"]["claim.value"] = json.dumps(known)
                (await http.put(f"{path}/protocol-mappers/models/{mapper['id']}", json=mapper)).raise_for_status()

    (found,) = await examined(fleet, package, repair=False)
    assert (found.problem, found.repaired) == ("its tokens lack claims", False)
    (mended,) = await examined(fleet, package, repair=True)
    assert mended.repaired
    token = await credentials.keycloak_token(package)
    assert token is not None
    claims = unverified_claims(token)
    assert claims["mqtt_client_id"] == package.client_id
    assert {f"app/{package.client_id}/{way}/#" for way in ("up", "down")} < {it["topic"] for it in claims["acl"]}
    assert await examined(fleet, package, repair=False) == []


async def test_a_device_that_can_do_both_rotates_on_a_broker_with_passwords(fleet: Fleet) -> None:
    package = await fleet.device()
    assert package.mqtt_auth == "password"
    async with fleet.powered(package, options=EITHER):
        await fleet.until(package, lambda view: view.online)
        await fleet.ask(admin.ROTATION_START, device=package.client_id)
        await fleet.seen(package, "rotation/completed")
    assert not await credentials.broker_accepts(package)


async def test_a_device_that_can_do_both_needs_no_keycloak_there(fleet: Fleet) -> None:
    package = (await fleet.device()).model_copy(update={"token_url": "http://127.0.0.1:1/token"})
    async with fleet.powered(package, options=EITHER):
        await fleet.until(package, lambda view: view.online)


@pytest.mark.usefixtures("without_accounts")
async def test_without_accounts_keycloak_alone_lets_devices_in_and_refuses_them(
    fleet: Fleet, stack: Stack
) -> None:
    package = await fleet.device()
    assert package.mqtt_auth == "token"
    assert package.client_id not in await credentials.broker_accounts(stack.endpoints)
    assert await examined(fleet, package, repair=True) == []

    await fleet.ask(admin.DEVICE_UPDATE, device=package.client_id, enabled=False)
    assert not await credentials.keycloak_accepts(package)
    await fleet.ask(admin.DEVICE_UPDATE, device=package.client_id, enabled=True)
    assert await credentials.keycloak_accepts(package)

    reissued = await fleet.ask(admin.DEVICE_REISSUE, device=package.client_id)
    assert not await credentials.keycloak_accepts(package)
    assert await credentials.keycloak_accepts(reissued)

    await fleet.ask(admin.DEVICE_REMOVE, device=package.client_id)
    assert not await credentials.keycloak_accepts(reissued)


@pytest.mark.usefixtures("without_accounts")
async def test_without_accounts_one_that_keycloak_treats_otherwise_is_mended(fleet: Fleet, stack: Stack) -> None:
    package = await fleet.device()
    async with credentials.client_in_keycloak(stack.endpoints, package) as (http, path, client):
        (await http.put(path, json={**client, "enabled": False})).raise_for_status()
    (mended,) = await examined(fleet, package, repair=True)
    assert mended.repaired
    assert await credentials.keycloak_accepts(package)


@pytest.mark.usefixtures("without_accounts")
async def test_without_accounts_claims_and_accounts_of_admins_are_refused_and_leave_nothing(fleet: Fleet) -> None:
    model = await fleet.model()
    with pytest.raises(AnswerError, match="claims need a broker with accounts"):
        await fleet.ask(admin.CLAIM_ADD, model=model, password="c" * 43)
    assert [it for it in (await fleet.ask(admin.CLAIM_LIST)).claims if it.model == model] == []
    with pytest.raises(AnswerError, match="create a client eve in Keycloak"):
        await fleet.ask(admin.ACCOUNT_ADD, name="eve", role="viewer", password="e" * 43)
    assert "eve" not in [it.name for it in (await fleet.ask(admin.ACCOUNT_LIST)).accounts]


@pytest.mark.usefixtures("behind_a_door")
async def test_with_tokens_a_device_is_configured_and_gets_a_new_secret(fleet: Fleet, stack: Stack) -> None:
    package = await newcomer(fleet, stack)
    async with fleet.powered(package):
        await fleet.until(package, lambda view: view.online)
        await fleet.ask(admin.CONFIG_SET, device=package.client_id, overrides={"rate": 5})
        await fleet.until(package, lambda view: view.config_version_reported == view.config_version == 2)
        await fleet.ask(admin.ROTATION_START, device=package.client_id)
        await fleet.seen(package, "rotation/completed")
        assert (await fleet.show(package)).secret_generation == 2
    assert not await credentials.keycloak_accepts(package)


@pytest.mark.usefixtures("behind_a_door")
@pytest.mark.parametrize(
    "point", ["slots.fill_second:after", "publish.rotation.stored:after", "publish.rotation.ack:before"]
)
async def test_with_tokens_a_device_whose_power_is_cut_in_a_rotation_comes_back(
    fleet: Fleet, stack: Stack, point: str
) -> None:
    await survives_a_power_cut(fleet, await newcomer(fleet, stack), point)


@pytest.mark.usefixtures("behind_a_door")
async def test_with_tokens_a_disabled_device_comes_back_only_when_it_is_enabled(
    fleet: Fleet, stack: Stack
) -> None:
    package = await newcomer(fleet, stack)
    await fleet.ask(admin.DEVICE_UPDATE, device=package.client_id, enabled=False)
    refused = asyncio.Event()
    hooks = Hooks(on_event=lambda name, _: refused.set() if name == "login.refused" else None)
    async with fleet.powered(package, hooks=hooks):
        async with asyncio.timeout(PATIENCE_S):
            await refused.wait()
        await fleet.ask(admin.DEVICE_UPDATE, device=package.client_id, enabled=True)
        await fleet.until(package, lambda view: view.online)
