"""The road home: a device whose secrets are all dead comes back by the key that only it has; nobody else does."""

from __future__ import annotations

import asyncio
import secrets
from dataclasses import replace

import pytest
from pydantic import SecretStr

from dev import credentials
from dev.credentials import behind_our_back, client_in_keycloak
from dev.database import run
from dev.fleet import OPTIONS, Fleet
from dev.stack import Stack
from dev.system import System
from dev.waiting import PATIENCE_S
from services.rotator.routes import SECRET_KEPT_S
from shared import crypto
from shared.protocol import admin, messages, topics
from shared.protocol.admin import Package
from tests.raw import RawDevice
from tests.recovering import Recovering


async def change_in_keycloak(stack: Stack, package: Package, secret: str) -> None:
    """Change a client's secret by hand, as in Keycloak's console."""
    async with client_in_keycloak(stack.endpoints, package) as (http, path, _):
        (await http.put(path, json={"secret": secret})).raise_for_status()


async def delete_client(stack: Stack, package: Package) -> None:
    """Delete a client by hand, as in Keycloak's console."""
    async with client_in_keycloak(stack.endpoints, package) as (http, path, _):
        (await http.delete(path)).raise_for_status()


async def registered(fleet: Fleet, package: Package) -> None:
    await fleet.until(package, lambda view: view.online and view.has_key)


@pytest.mark.parametrize("same", [True, False], ids=["one other secret", "two other secrets"])
async def test_a_device_whose_secret_was_changed_in_both_places_comes_back(
    fleet: Fleet, stack: Stack, same: bool
) -> None:
    package = await fleet.device()
    async with fleet.powered(package):
        await registered(fleet, package)
    one = secrets.token_urlsafe(32)
    await change_in_keycloak(stack, package, one)
    other = one if same else secrets.token_urlsafe(32)
    await behind_our_back(stack, "setClientPassword", package.client_id, password=other)
    assert not await credentials.broker_accepts(package)
    async with fleet.powered(package):
        await fleet.seen(package, "device/recovered")
        view = await fleet.until(package, lambda view: view.online)
        valid = await fleet.ask(admin.DEVICE_PROVISION, device=package.client_id)
        assert await credentials.keycloak_accepts(valid)
        assert await credentials.broker_accepts(valid)
        await fleet.ask(admin.ROTATION_START, device=package.client_id)
        renewed = await fleet.until(package, lambda now: now.secret_generation > view.secret_generation)
    assert renewed.has_key


async def test_a_device_whose_client_and_account_are_gone_comes_back(fleet: Fleet, stack: Stack) -> None:
    package = await fleet.device()
    async with fleet.powered(package):
        await registered(fleet, package)
    await behind_our_back(stack, "deleteClient", package.client_id)
    await delete_client(stack, package)
    async with fleet.powered(package):
        await fleet.until(package, lambda view: view.online)
    valid = await fleet.ask(admin.DEVICE_PROVISION, device=package.client_id)
    assert await credentials.keycloak_accepts(valid)


async def test_an_old_device_goes_on_without_a_key(fleet: Fleet) -> None:
    package = await fleet.device()
    async with fleet.powered(package, options=replace(OPTIONS, keyless=True)):
        view = await fleet.until(package, lambda view: view.online)
    assert not view.has_key


async def test_only_the_devices_own_key_is_answered(fleet: Fleet) -> None:
    package = await fleet.device()
    async with fleet.powered(package):
        await registered(fleet, package)
    pair = Recovering.key_of(fleet.folder / package.client_id)
    thief = crypto.new_key_pair()
    asking = Recovering(package)
    assert await asking.ask(thief) is None
    assert await asking.ask(pair, client_id=(await fleet.device()).client_id) is None
    # A key without the model is no client id, and makes no identity of its own.
    assert await asking.ask(pair, client_id=package.device_key) is None
    assert (await asking.answered(pair)).secret == package.secret
    await fleet.ask(admin.DEVICE_UPDATE, device=package.client_id, enabled=False)
    assert await asking.ask(pair) is None
    await fleet.ask(admin.DEVICE_REMOVE, device=package.client_id)
    assert await asking.ask(pair) is None


def key_message(secret: str, public_key: str) -> messages.DeviceKey:
    return messages.DeviceKey(public_key=public_key, proof=crypto.key_proof(SecretStr(secret), public_key))


async def test_a_key_is_never_replaced_by_a_device_but_by_a_reissue(fleet: Fleet) -> None:
    package = await fleet.device()
    async with fleet.powered(package):
        await registered(fleet, package)
    other = crypto.public_half(crypto.new_key_pair())
    async with RawDevice(package) as device:
        await device.send(topics.KEY, key_message(package.secret, other))
        known = await device.receive(topics.KEY_KNOWN)
        assert known.public_key != other
        await fleet.seen(package, "device/key_refused")
    renewed = await fleet.ask(admin.DEVICE_REISSUE, device=package.client_id)
    assert not (await fleet.show(package)).has_key
    async with RawDevice(renewed) as device:
        # What the thief of the old secret has said, and what comes late of the board before.
        await device.send(topics.KEY, key_message(package.secret, other))
        mine = crypto.public_half(crypto.new_key_pair())
        await device.send(topics.KEY, key_message(renewed.secret, mine))
        assert (await device.receive(topics.KEY_KNOWN)).public_key == mine


async def test_a_board_that_keeps_its_flash_registers_its_key_again_after_a_reissue(fleet: Fleet) -> None:
    package = await fleet.device()
    async with fleet.powered(package):
        await registered(fleet, package)
    renewed = await fleet.ask(admin.DEVICE_REISSUE, device=package.client_id)
    async with fleet.powered(renewed):
        await registered(fleet, package)


async def test_a_thief_of_the_secret_cannot_open_the_next_one(fleet: Fleet) -> None:
    package = await fleet.device()
    async with fleet.powered(package):
        await registered(fleet, package)
    thief = crypto.new_key_pair()
    async with RawDevice(package, online=True) as device:
        await fleet.ask(admin.ROTATION_START, device=package.client_id)
        offer = await device.receive(topics.ROTATION_OFFER)
        request = messages.RotationRequest(rotation_id=offer.rotation_id, public_key=crypto.public_half(thief))
        await device.send(topics.ROTATION_REQUEST, request)
        sealed = await device.receive(topics.ROTATION_SECRET)
    assert sealed.secret is None
    assert sealed.jwe is not None
    with pytest.raises(crypto.SecretUnreadableError):
        crypto.unseal(sealed.jwe, thief)
    own = Recovering.key_of(fleet.folder / package.client_id)
    assert crypto.unseal(sealed.jwe, own) != SecretStr(package.secret)


async def test_the_servers_key_is_in_the_database_only_encrypted(
    fleet: Fleet, stack: Stack, system: System
) -> None:
    await fleet.device()
    (row,) = await run(stack, "SELECT public_key, private_key FROM mdm.instance")
    vault = crypto.Vault([SecretStr(system.own["registry"]["MDM_MASTER_KEYS"])])
    pair = crypto.key_pair(row["public_key"], vault.decrypt(row["private_key"]))
    assert crypto.public_half(pair) == row["public_key"]


async def test_a_secret_on_its_way_is_soon_forgotten_by_the_broker(fleet: Fleet) -> None:
    """What waits for a device lies in the broker's saved memory, too."""
    package = await fleet.device()
    await fleet.present(package)
    async with credentials.device_client(package, session_s=600) as client, asyncio.timeout(PATIENCE_S):
        await client.subscribe(f"mdm/v1/d/{package.client_id}/down/rotation/#", qos=1)
        await fleet.ask(admin.ROTATION_START, device=package.client_id)
        async for message in client.messages:
            assert isinstance(message.payload, bytes)
            if topics.ROTATION_OFFER.match(str(message.topic)):
                offer = topics.ROTATION_OFFER.decode(message.payload)
                request = topics.ROTATION_REQUEST.encode(messages.RotationRequest(rotation_id=offer.rotation_id))
                await client.publish(topics.ROTATION_REQUEST.of(client_id=package.client_id), request, qos=1)
            elif topics.ROTATION_SECRET.match(str(message.topic)):
                assert message.properties is not None
                assert 0 < getattr(message.properties, "MessageExpiryInterval", 0) <= SECRET_KEPT_S
                break
