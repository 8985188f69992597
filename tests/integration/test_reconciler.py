"""`mdm doctor` on the real three: what was changed behind our back is found, and mended where that is safe."""

from __future__ import annotations

import asyncio
import signal
from datetime import timedelta
from uuid import uuid4

import pytest

from deploy import broker, certificates
from dev import credentials
from dev.credentials import behind_our_back
from dev.database import run
from dev.fleet import Fleet
from dev.stack import Stack
from dev.system import System
from dev.waiting import until
from services.registry.reconciler import pace
from shared.database.engine import Database
from shared.protocol import admin, topics
from shared.protocol.admin import Finding, Package
from tests.faults.promise import expire
from tests.raw import RawDevice

pytestmark = pytest.mark.usefixtures("compared")


async def examined(fleet: Fleet, package: Package, *, repair: bool) -> list[Finding]:
    diagnosis = await fleet.ask(admin.DOCTOR_REPAIR if repair else admin.DOCTOR)
    return [finding for finding in diagnosis.findings if finding.subject == package.client_id]


async def test_a_lost_broker_account_is_made_anew_with_the_same_secret(fleet: Fleet, stack: Stack) -> None:
    package = await fleet.device()
    await behind_our_back(stack, "deleteClient", package.client_id)
    assert not await credentials.broker_accepts(package)
    (found,) = await examined(fleet, package, repair=False)
    assert (found.problem, found.repaired) == ("has no account in the broker", False)
    assert not await credentials.broker_accepts(package)
    (mended,) = await examined(fleet, package, repair=True)
    assert mended.repaired
    assert await credentials.broker_accepts(package)
    assert await examined(fleet, package, repair=False) == []


async def test_a_device_that_is_made_while_all_is_compared_is_no_finding(fleet: Fleet) -> None:
    model = await fleet.model()
    made: list[str] = []

    async def keep_adding() -> None:
        while True:
            made.append((await fleet.ask(admin.DEVICE_ADD, model=model)).client_id)

    adding = [asyncio.create_task(keep_adding()) for _ in range(4)]
    found: list[Finding] = []
    while len(made) < 40:
        found += (await fleet.ask(admin.DOCTOR)).findings
    for task in adding:
        task.cancel()
    await asyncio.wait(adding)
    assert [finding for finding in found if finding.subject in made] == []


async def test_a_repair_that_is_asked_for_again_and_again_is_done_once(fleet: Fleet, stack: Stack) -> None:
    """The tool repeats its request every 2 s, and a repair may take longer."""
    package = await fleet.device()
    request = admin.Nothing(request_id=uuid4().hex)
    first = await fleet.admin.call(admin.DOCTOR_REPAIR, request)
    await behind_our_back(stack, "deleteClient", package.client_id)
    assert await fleet.admin.call(admin.DOCTOR_REPAIR, request) == first
    assert not await credentials.broker_accepts(package)


async def test_what_is_lost_is_mended_from_time_to_time(fleet: Fleet, stack: Stack, system: System) -> None:
    package = await fleet.device()
    async with system.altered("registry", MDM_RECONCILE_S="1"):
        await behind_our_back(stack, "deleteClient", package.client_id)
        await until(lambda: credentials.broker_accepts(package))


async def test_of_several_registries_one_compares_and_a_start_compares_anyway(database: Database) -> None:
    assert await pace.claim(database, at_once=True)
    assert not await pace.claim(database, at_once=False)
    await pace.compared(database, next_in=timedelta(0))
    assert sorted(await asyncio.gather(*(pace.claim(database, at_once=False) for _ in range(4))))[-2:] == [
        False,
        True,
    ]
    await pace.compared(database, next_in=timedelta(days=1))
    assert not await pace.claim(database, at_once=False)
    assert await pace.claim(database, at_once=True)


async def test_a_lost_account_of_a_disabled_device_is_made_anew_but_lets_nobody_in(
    fleet: Fleet, stack: Stack
) -> None:
    package = await fleet.device()
    await fleet.ask(admin.DEVICE_UPDATE, device=package.client_id, enabled=False)
    await behind_our_back(stack, "deleteClient", package.client_id)
    (mended,) = await examined(fleet, package, repair=True)
    assert mended.repaired
    assert not await credentials.broker_accepts(package)


@pytest.mark.parametrize("enabled", [True, False])
async def test_a_device_that_the_broker_treats_otherwise_than_the_database_says_is_mended(
    fleet: Fleet, stack: Stack, enabled: bool
) -> None:
    package = await fleet.device()
    await fleet.ask(admin.DEVICE_UPDATE, device=package.client_id, enabled=enabled)
    await behind_our_back(stack, "disableClient" if enabled else "enableClient", package.client_id)
    (mended,) = await examined(fleet, package, repair=True)
    assert mended.repaired
    assert await credentials.broker_accepts(package) == enabled
    assert await credentials.keycloak_accepts(package) == enabled


async def test_an_account_without_a_row_is_disabled_by_a_repair_only(fleet: Fleet, stack: Stack) -> None:
    name = f"iotdevice-ghost-{uuid4().hex[:8]}"
    ghost = (await fleet.device()).model_copy(update={"client_id": name})
    await behind_our_back(stack, "createClient", name, password=ghost.secret)
    (found,) = await examined(fleet, ghost, repair=False)
    assert found.problem == "is not in the database but has an account"
    assert name in await credentials.broker_accounts(stack.endpoints)
    (disabled,) = await examined(fleet, ghost, repair=True)
    assert disabled.repaired
    assert name in await credentials.broker_accounts(stack.endpoints)
    assert not await credentials.broker_accepts(ghost)


async def test_a_client_without_a_row_is_disabled_and_one_of_another_instance_is_left_alone(
    fleet: Fleet, stack: Stack
) -> None:
    model = await fleet.model()
    ours, foreign = await fleet.device(model), await fleet.device(model)
    await mark_as_foreign(stack, foreign)
    for package in (ours, foreign):
        await behind_our_back(stack, "deleteClient", package.client_id)
    await run(stack, "DELETE FROM mdm.devices WHERE key = ANY($1)", [ours.device_key, foreign.device_key])
    await fleet.ask(admin.DOCTOR_REPAIR)
    assert not await credentials.keycloak_accepts(ours)
    assert await credentials.keycloak_accepts(foreign)


@pytest.mark.usefixtures("patient")
async def test_a_device_in_a_rotation_is_left_to_the_rotator(fleet: Fleet, stack: Stack) -> None:
    package = await fleet.device()
    await fleet.offered(package)
    await behind_our_back(stack, "disableClient", package.client_id)
    assert await examined(fleet, package, repair=True) == []
    await expire(stack, package)
    await fleet.seen(package, "rotation/timed_out")
    assert [finding.repaired for finding in await examined(fleet, package, repair=True)] == [True]


async def test_a_generation_that_differs_is_recorded_where_keycloak_and_the_broker_agree(
    fleet: Fleet, stack: Stack
) -> None:
    package = await fleet.device()
    await run(
        stack,
        "UPDATE mdm.devices SET secret_generation = 2, last_generation = 2 WHERE key = $1",
        package.device_key,
    )
    (found,) = await examined(fleet, package, repair=True)
    assert "its secrets differ: database 2" in found.problem
    assert found.repaired
    assert await credentials.broker_accepts(package)
    assert (await fleet.show(package)).secret_generation == 1


async def mark_as_foreign(stack: Stack, package: Package) -> None:
    async with credentials.client_in_keycloak(stack.endpoints, package) as (http, path, _):
        changed = await http.put(path, json={"attributes": {"mdm.instance": "another"}})
        changed.raise_for_status()


async def test_what_a_device_that_is_gone_left_retained_is_cleared_by_a_repair_only(
    fleet: Fleet, stack: Stack
) -> None:
    package = await fleet.device()
    topic = topics.LOG.of(client_id=package.client_id)
    async with RawDevice(package) as device:
        await device.client.publish(topic, b"I was here", qos=1, retain=True)
    await behind_our_back(stack, "deleteClient", package.client_id)
    await run(stack, "DELETE FROM mdm.devices WHERE key = $1", package.device_key)
    (found,) = await examined(fleet, package, repair=False)
    assert found.problem == "is not in the database but has a client, retained messages"
    await examined(fleet, package, repair=True)
    (left,) = await examined(fleet, package, repair=False)
    assert left.problem == "is not in the database but has a client"


async def test_all_accounts_are_made_anew_after_the_broker_lost_its_file(
    fleet: Fleet, stack: Stack, system: System
) -> None:
    model = await fleet.model()
    packages = await asyncio.gather(*(fleet.device(model) for _ in range(5)))
    registry = system.services["registry"]
    # It would mend them as soon as the broker is back, and note which device was refused meanwhile.
    registry.send_signal(signal.SIGSTOP)
    try:
        await asyncio.to_thread(stack.broker.stop)
        (file,) = stack.folder.rglob("dynamic-security.json")
        file.write_text(broker.render_accounts(stack.endpoints.accounts))
        await asyncio.to_thread(stack.broker.start)
        assert not await credentials.broker_accepts(packages[0])
    finally:
        registry.send_signal(signal.SIGCONT)
    # The devices of all other tests are mended too.
    repair = admin.Nothing(request_id=uuid4().hex)
    await fleet.admin.call(admin.DOCTOR_REPAIR, repair, timeout_s=300)
    for package in packages:
        assert await credentials.broker_accepts(package)
    ours = {package.client_id for package in packages}
    assert not [found for found in (await fleet.ask(admin.DOCTOR)).findings if found.subject in ours]


async def test_a_certificate_of_the_broker_that_ends_soon_is_a_finding_until_it_is_renewed(
    fleet: Fleet, stack: Stack, monkeypatch: pytest.MonkeyPatch
) -> None:
    place = f"{stack.endpoints.mqtt_host}:{stack.endpoints.device_mqtt_port}"

    async def problems() -> list[str]:
        return [it.problem for it in (await fleet.ask(admin.DOCTOR)).findings if it.subject == place]

    assert await problems() == []
    folder = stack.endpoints.ca_file.parent
    kept = {name: (folder / name).read_bytes() for name in ("server.key", "server.crt")}
    monkeypatch.setattr(certificates, "SERVER_VALID", timedelta(hours=20, minutes=30))
    (folder / "server.crt").unlink()
    certificates.ensure_server_certificate(folder, ["localhost", stack.endpoints.mqtt_host])
    stack.broker.send_signal(signal.SIGHUP)
    try:
        (problem,) = await until(problems)
        assert problem.startswith("its certificate ends in 20 hours, on ")
    finally:
        for name, content in kept.items():
            (folder / name).write_bytes(content)
        stack.broker.send_signal(signal.SIGHUP)
    await until(problems, lambda found: not found)
