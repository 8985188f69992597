"""Identities and configuration on the real stack: whole or not at all, once however often it is asked."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from uuid import uuid4

import pytest

from cli.client import AnswerError
from dev import credentials
from dev.database import run
from dev.fleet import Fleet
from dev.stack import Stack
from dev.system import System
from dev.waiting import until
from shared.protocol import admin, messages, topics
from tests.keycloak_proxy import Proxy
from tests.raw import RawDevice


async def keycloak_clients(stack: Stack, model: str) -> list[str]:
    endpoints = stack.endpoints
    async with credentials.keycloak_admin(endpoints) as client:
        response = await client.get(
            f"/admin/realms/{endpoints.realm}/clients",
            params={"clientId": f"iotdevice-{model}-", "search": "true", "max": "1000"},
        )
    return [found["clientId"] for found in response.raise_for_status().json()]


async def traces(stack: Stack, model: str) -> tuple[list[str], list[str], list[str]]:
    """Return what there is of a model's devices: Keycloak clients, broker accounts, rows by state."""
    rows = await run(
        stack,
        "SELECT lifecycle FROM mdm.devices d JOIN mdm.device_models m ON m.id = d.model_id WHERE code = $1",
        model,
    )
    accounts = await credentials.broker_accounts(stack.endpoints)
    ours = [name for name in accounts if name.startswith(f"iotdevice-{model}-")]
    return await keycloak_clients(stack, model), ours, [str(row[0]) for row in rows]


async def set_config(fleet: Fleet, device: str, overrides: dict[str, object]) -> admin.ConfigSetResult:
    return await fleet.ask(admin.CONFIG_SET, device=device, overrides=overrides)


@asynccontextmanager
async def refused_by_the_database(stack: Stack, rule: str) -> AsyncIterator[None]:
    name = f"refused_{uuid4().hex}"
    await run(stack, f"ALTER TABLE mdm.devices ADD CONSTRAINT {name} CHECK ({rule}) NOT VALID")
    try:
        yield
    finally:
        await run(stack, f"ALTER TABLE mdm.devices DROP CONSTRAINT {name}")


async def test_a_device_is_added_in_database_keycloak_and_broker(fleet: Fleet) -> None:
    package = await fleet.device()
    assert await credentials.keycloak_accepts(package)
    assert await credentials.broker_accepts(package)
    assert not await credentials.keycloak_accepts(package, "wrong" * 10)
    assert not await credentials.broker_accepts(package, "wrong" * 10)


async def test_the_same_request_three_times_makes_one_device_and_gives_one_answer(
    fleet: Fleet, stack: Stack
) -> None:
    model = await fleet.model()
    request = admin.DeviceAdd(request_id=uuid4().hex, model=model)
    answers = await asyncio.gather(*(fleet.admin.call(admin.DEVICE_ADD, request) for _ in range(3)))
    assert len({answer.client_id for answer in answers}) == 1
    assert len(await keycloak_clients(stack, model)) == 1


async def test_a_request_id_of_another_operation_is_refused(fleet: Fleet) -> None:
    request_id = uuid4().hex
    model = await fleet.model()
    await fleet.admin.call(admin.DEVICE_ADD, admin.DeviceAdd(request_id=request_id, model=model))
    with pytest.raises(AnswerError, match=r"request_id: was already used for registry\.device\.add"):
        await fleet.admin.call(
            admin.MODEL_ADD, admin.ModelAdd(request_id=request_id, code=f"m{request_id[:9]}", chip="esp32")
        )


async def test_keycloak_away_while_a_device_is_added_is_a_clear_error_and_leaves_nothing(
    fleet: Fleet, stack: Stack, system: System, proxy: Proxy
) -> None:
    model = await fleet.model()
    async with proxy.away():
        with pytest.raises(AnswerError, match="Keycloak does not answer") as refused:
            await fleet.ask(admin.DEVICE_ADD, model=model)
        assert refused.value.answer_code == "unavailable"
        models = (await fleet.ask(admin.MODEL_LIST)).models
        assert [found.devices for found in models if found.code == model] == [0]
    # What could not be undone while Keycloak was away is undone at the next look, at the latest at a start.
    await asyncio.to_thread(system.services["registry"].restart)
    await until(lambda: traces(stack, model), lambda found: found == ([], [], []), within_s=30)


async def test_the_first_request_after_an_outage_of_keycloak_is_answered(fleet: Fleet, proxy: Proxy) -> None:
    model = await fleet.model()
    # As many connections are kept as were needed at a time; all of them are dead afterwards.
    await asyncio.gather(*(fleet.device(model) for _ in range(4)))
    async with proxy.away():
        pass
    await asyncio.gather(*(fleet.device(model) for _ in range(4)))


@pytest.mark.parametrize(
    "rule",
    ["name <> 'refuse-me'", "NOT (name = 'refuse-me' AND lifecycle = 'ACTIVE')"],
    ids=["at the intent", "at the activation"],
)
async def test_a_device_that_the_database_refuses_leaves_nothing(fleet: Fleet, stack: Stack, rule: str) -> None:
    model = await fleet.model()
    async with refused_by_the_database(stack, rule):
        with pytest.raises(AnswerError, match="the database refuses it"):
            await fleet.ask(admin.DEVICE_ADD, model=model, name="refuse-me")
    assert await traces(stack, model) == ([], [], [])


async def test_a_registry_killed_while_it_adds_a_device_leaves_nothing_or_a_whole_device(
    fleet: Fleet, stack: Stack, system: System
) -> None:
    model = await fleet.model()
    request = admin.DeviceAdd(request_id=uuid4().hex, model=model)
    adding = asyncio.ensure_future(fleet.admin.call(admin.DEVICE_ADD, request, timeout_s=60))
    await until(lambda: traces(stack, model), lambda found: found[2])
    await asyncio.to_thread(system.services["registry"].kill)
    await asyncio.to_thread(system.services["registry"].start)
    added = await adding  # the command line asks again, and the same request is finished or begun anew
    package = await fleet.ask(admin.DEVICE_PROVISION, device=added.client_id)
    assert await credentials.keycloak_accepts(package)
    assert await credentials.broker_accepts(package)
    assert await traces(stack, model) == ([added.client_id], [added.client_id], ["ACTIVE"])


async def test_a_configuration_is_merged_versioned_pushed_and_reported(fleet: Fleet) -> None:
    model = await fleet.model(config_defaults={"led": {"on": True, "color": "white"}, "interval_s": 10})
    package = await fleet.device(model)
    async with fleet.powered(package):
        await fleet.until(package, lambda view: view.config_version_reported == 1)
        first = await fleet.ask(admin.CONFIG_SET, device=package.client_id, overrides={"led": {"color": "red"}})
        second = await fleet.ask(
            admin.CONFIG_SET, device=package.device_key, overrides={"interval_s": None, "x": 1}
        )
        same = await fleet.ask(admin.CONFIG_SET, device=package.client_id, overrides={"x": 1})
        view = await fleet.until(package, lambda view: view.config_version_reported == 3)
    assert first.document == {"led": {"on": True, "color": "red"}, "interval_s": 10}
    assert second.document == {"led": {"on": True, "color": "red"}, "interval_s": 10, "x": 1}
    assert (first.version, second.version, same.version, same.changed) == (2, 3, 3, False)
    assert view.config_outcome == "applied"


async def test_a_configuration_against_the_schema_is_refused_with_its_path(fleet: Fleet) -> None:
    schema = {
        "type": "object",
        "properties": {"led": {"properties": {"level": {"type": "integer", "maximum": 9}}}},
    }
    package = await fleet.device(await fleet.model(config_schema=schema))
    with pytest.raises(AnswerError, match=r"configuration\.led\.level: 10 is greater than the maximum of 9"):
        await set_config(fleet, package.client_id, {"led": {"level": 10}})
    assert (await fleet.show(package)).config_version == 1


async def test_a_merged_configuration_that_no_device_could_take_is_refused(fleet: Fleet) -> None:
    package = await fleet.device(await fleet.model(config_defaults={"a": "x" * 20_000}))
    with pytest.raises(AnswerError, match="configuration: must be at most 32768 bytes"):
        await set_config(fleet, package.client_id, {"b": "x" * 20_000})


async def test_a_device_that_has_the_configuration_is_not_sent_it_again(fleet: Fleet) -> None:
    package = await fleet.device()
    async with RawDevice(package) as device:
        ask = messages.ConfigGet(request_id="first")
        whole = await device.ask(topics.CONFIG_GET, ask, topics.CONFIG)
        ask = messages.ConfigGet(request_id="second", have_version=whole.version)
        await device.send(topics.CONFIG_GET, ask)
        short = await device.receive(topics.CONFIG)
        while short.request_id != "second":
            short = await device.receive(topics.CONFIG)
    assert (whole.unchanged, whole.document, whole.secret_generation) == (False, {}, 1)
    assert (short.unchanged, short.document) == (True, None)


async def test_presence_follows_the_device_and_its_last_will(fleet: Fleet) -> None:
    package = await fleet.device()
    async with fleet.powered(package):
        online = await fleet.until(package, lambda view: view.online)
    offline = await fleet.until(package, lambda view: not view.online)
    assert online.firmware_version == offline.firmware_version == "1.0.0"


async def test_a_status_sent_while_the_registry_was_away_is_not_lost(fleet: Fleet, system: System) -> None:
    package = await fleet.device()
    await asyncio.to_thread(system.services["registry"].stop)
    try:
        async with RawDevice(package) as device:
            status = messages.Status(online=True, firmware_version="7.7.7")
            await device.client.publish(
                topics.STATUS.of(client_id=package.client_id), topics.STATUS.encode(status), qos=1, retain=True
            )
    finally:
        await asyncio.to_thread(system.services["registry"].start)
    await fleet.until(package, lambda view: view.firmware_version == "7.7.7")


async def test_a_hand_out_is_in_the_audit_log_and_the_log_cannot_be_changed(fleet: Fleet, stack: Stack) -> None:
    package = await fleet.device()
    rows = await run(
        stack,
        "SELECT actor, action FROM mdm.audit_log WHERE subject = $1 ORDER BY id",
        package.client_id,
    )
    assert [tuple(row) for row in rows] == [("admin", "device.add"), ("admin", "device.provision")]
