"""No secret is left in the clear: not in the database, in no log, in no retained message, in no event and answer.

What is looked through is what the whole run of tests has left so far, not only what this module did.
"""

from __future__ import annotations

import asyncio
import base64
from collections.abc import AsyncIterator
from contextlib import suppress

import pytest
from sqlalchemy.engine import make_url

from cli.client import Admin, AnswerError
from dev import credentials
from dev.fleet import Fleet
from dev.servers.mosquitto import MosquittoProcess
from dev.stack import Stack
from dev.system import System
from shared import crypto
from shared.protocol import admin, messages, topics
from tests.leaks import Heard, database, leaks, memory_of_broker
from tests.raw import RawDevice

PAGE = 100


@pytest.fixture
async def heard(system: System) -> AsyncIterator[Heard]:
    events = Heard()
    async with Admin(system.profile) as listener:
        task = asyncio.create_task(events.listen(listener), name="events")
        yield events
        task.cancel()
        with suppress(asyncio.CancelledError):
            await task


async def secrets_of_keycloak(stack: Stack) -> dict[str, str]:
    """Return the secrets in force of all clients, those of devices of other tests too."""
    endpoints = stack.endpoints
    found: dict[str, str] = {}
    async with credentials.keycloak_admin(endpoints) as client:
        while True:
            page = await client.get(
                f"/admin/realms/{endpoints.realm}/clients", params={"first": len(found), "max": PAGE}
            )
            clients = page.raise_for_status().json()
            found |= {one["clientId"]: one.get("secret", "") for one in clients}
            if len(clients) < PAGE:
                return {name: secret for name, secret in found.items() if secret}


async def test_no_secret_of_the_whole_run_is_found_anywhere(
    fleet: Fleet, stack: Stack, system: System, heard: Heard
) -> None:
    if not isinstance(stack.broker, MosquittoProcess):
        pytest.skip("what a broker in a container keeps is not looked at")
    answers: list[str] = []
    first = await fleet.device()
    secrets = {"a secret that a rotation replaced": first.secret}
    async with fleet.powered(first):
        await fleet.until(first, lambda view: view.online)
        await fleet.ask(admin.ROTATION_START, device=first.client_id)
        await fleet.seen(first, "rotation/completed")
        secrets["a secret of a rotation"] = (
            await fleet.ask(admin.DEVICE_PROVISION, device=first.client_id)
        ).secret
        answers.append((await fleet.ask(admin.ROTATION_HISTORY, device=first.client_id)).model_dump_json())

    second = await fleet.device()
    async with RawDevice(second, online=True) as device:
        await fleet.ask(admin.ROTATION_START, device=second.client_id)
        offer = await device.receive(topics.ROTATION_OFFER)
        await device.send(topics.ROTATION_REQUEST, messages.RotationRequest(rotation_id=offer.rotation_id))
        delivered = await device.receive(topics.ROTATION_SECRET)
        assert delivered.secret is not None
        secrets["a secret that was delivered and given up"] = delivered.secret
        under_way = {"the database while a rotation is in progress": await database(stack)}
        answers.append((await fleet.ask(admin.ROTATION_STATUS)).model_dump_json())
        await fleet.seen(second, "rotation/timed_out")
    reissued = await fleet.ask(admin.DEVICE_REISSUE, device=second.client_id)
    secrets["a secret that was issued again"] = reissued.secret
    secrets["a claim's password"] = crypto.new_secret().get_secret_value()
    await fleet.ask(admin.CLAIM_ADD, model=await fleet.model(), password=secrets["a claim's password"])
    secrets["a Wi-Fi password"] = crypto.new_secret().get_secret_value()
    network = {"ssid": "home", "password": secrets["a Wi-Fi password"]}
    await fleet.ask(admin.CONNECTION_SET, device=first.client_id, wifi=[network])
    wanted = await fleet.ask(admin.DEVICE_PROVISION, device=first.client_id)
    assert wanted.wifi == [messages.WifiNetwork.model_validate(network)]
    answers.append((await fleet.ask(admin.CONNECTION_STATUS)).model_dump_json())
    answers.append((await fleet.ask(admin.CONNECTION_HISTORY)).model_dump_json())
    answers.append((await fleet.ask(admin.CONNECTION_SHOW, device=first.client_id)).model_dump_json())
    with pytest.raises(AnswerError) as refused:
        await fleet.ask(admin.DEVICE_SHOW, device="iotdevice-nobody-00000000")
    answers.append(refused.value.message)

    endpoints = stack.endpoints
    database_urls = {"the superuser": endpoints.database_url, **endpoints.database_users}
    secrets |= {
        **{f"the password of {user}": str(make_url(url).password) for user, url in database_urls.items()},
        **{f"the master key of {service}": own["MDM_MASTER_KEYS"] for service, own in system.own.items()},
        **{f"the password of {account}": password for account, password in endpoints.accounts.items()},
        **{f"{name} in Keycloak": secret for name, secret in (await secrets_of_keycloak(stack)).items()},
    }
    places = {
        "the database": await database(stack),
        "the broker's memory": await memory_of_broker(stack),
        "the events": heard.text,
        "answers": "\n".join(answers).encode(),
        **under_way,
        **{log.name: log.read_bytes() for log in (stack.folder / "logs").iterdir()},
    }
    # What is no secret is found in all of them: it is the right places that are looked through.
    for place in ("the database", "the broker's memory", "the events", "answers", "broker.log"):
        assert first.client_id.encode() in places[place] or first.device_key.encode() in places[place], place
    assert leaks({"what is no secret": first.device_key}, places)
    assert leaks(secrets, places) == []


def test_a_secret_is_found_in_each_of_its_spellings() -> None:
    secret = "zbhQ3q_vK0-secretZZ9"
    for text in (
        secret.encode(),
        b"\\x00" + secret.encode().hex().encode(),
        base64.b64encode(secret.encode()),
        base64.b64encode(b"a" + secret.encode()),
        base64.b64encode(b"ab" + secret.encode() + b"c"),
    ):
        assert leaks({"it": secret}, {"there": b"before " + text + b" after"}) == ["it: in there"]
    assert leaks({"it": secret}, {"there": b"another"}) == []
