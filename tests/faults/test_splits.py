"""Database, Keycloak and broker hold different secrets of a device: it heals without a person."""

from __future__ import annotations

import asyncio
import secrets
import shutil
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from functools import partial
from itertools import product
from types import SimpleNamespace
from typing import Any

import asyncpg
import pytest
from pydantic import SecretStr

from cli.client import AnswerError
from dev import credentials
from dev.credentials import behind_our_back, client_in_keycloak
from dev.database import run
from dev.fleet import OPTIONS, Fleet
from dev.stack import Stack
from dev.system import System
from dev.waiting import PATIENCE_S, logged, until
from device.options import Hooks
from services.registry.clashes import Clashes
from services.registry.credentials.broker_watch import GRACE, BrokerWatch
from services.registry.credentials.service import CAME
from shared.database import engine
from shared.database.outbox import Outbox
from shared.mqtt.connection import Delivery
from shared.protocol import admin, messages
from tests import keycloak_proxy
from tests.bare_connection import bare
from tests.faults.histories import put_back_rows, rows_of
from tests.faults.promise import expire, kept
from tests.faults.test_recovery import change_in_keycloak, delete_client
from tests.integration.test_reconciler import examined
from tests.keycloak_proxy import Fault

OLD_DEVICE = replace(OPTIONS, keyless=True)
"""Without a key: nothing of this may depend on recovery."""

SEEN = (
    "UPDATE mdm.device_presence SET online = true, last_seen_at = now() - $2::interval "
    "FROM mdm.devices d WHERE d.id = device_id AND d.key = $1"
)


@pytest.fixture
async def quick(system: System) -> AsyncIterator[System]:
    """Let the registry compare all often, as it does each few minutes."""
    async with system.altered("registry", MDM_RECONCILE_S="1"):
        yield system
    # It compares all on startup, and would repair what the next test breaks.
    await system.compared()


@pytest.fixture
async def patient(system: System) -> AsyncIterator[System]:
    """Run the rotator with a deadline that never comes by itself."""
    async with system.altered("rotator", MDM_ROTATION_DEADLINE_S="120"):
        yield system


async def heals(fleet: Fleet, package: admin.Package) -> bool:
    """Say whether nothing is in progress or found any more, and the broker lets the device in."""
    if (await fleet.show(package)).rotation_state == "PENDING" or await examined(fleet, package, repair=False):
        return False
    try:
        valid = await fleet.ask(admin.DEVICE_PROVISION, device=package.client_id)
    except AnswerError:
        return False  # a rotation has just begun
    return await credentials.broker_accepts(valid)


async def rotated(fleet: Fleet, package: admin.Package) -> admin.Package:
    """Give a device that is online a new secret, and return its package."""
    before = (await fleet.show(package)).secret_generation
    await fleet.ask(admin.ROTATION_START, device=package.client_id)
    await fleet.until(package, lambda view: view.rotation_state == "OK" and view.secret_generation > before)
    return await fleet.ask(admin.DEVICE_PROVISION, device=package.client_id)


async def test_a_broker_that_comes_back_with_older_accounts_gets_the_newer_ones_again(
    fleet: Fleet, stack: Stack
) -> None:
    package = await fleet.device()
    (accounts,) = stack.folder.rglob("dynamic-security.json")
    async with fleet.powered(package, options=OLD_DEVICE):
        await fleet.until(package, lambda view: view.online)
        await asyncio.to_thread(shutil.copy, accounts, accounts.with_suffix(".older"))
        renewed = await rotated(fleet, package)
        await asyncio.to_thread(stack.broker.kill)
        await asyncio.to_thread(shutil.copy, accounts.with_suffix(".older"), accounts)
        await asyncio.to_thread(stack.broker.start)
        await until(lambda: credentials.broker_accepts(renewed))
        view = await kept(fleet, stack, package)
    assert view.secret_generation == 2


@pytest.mark.usefixtures("quick")
async def test_a_secret_changed_by_hand_before_an_offer_is_never_put_back(fleet: Fleet, stack: Stack) -> None:
    package = await fleet.device()
    async with fleet.powered(package, options=OLD_DEVICE, cut_at="publish.rotation.stored:after") as power:
        await fleet.until(package, lambda view: view.online)
        await change_in_keycloak(stack, package, secrets.token_urlsafe(32))
        await fleet.ask(admin.ROTATION_START, device=package.client_id)
        await power.failed()
    await fleet.until(package, lambda view: view.rotation_state != "PENDING")
    async with fleet.powered(package, options=OLD_DEVICE):
        await kept(fleet, stack, package)


@pytest.mark.usefixtures("quick")
@pytest.mark.parametrize("place", ["keycloak", "broker", "database"])
async def test_an_old_device_whose_secret_differs_in_one_place_heals(
    fleet: Fleet, stack: Stack, place: str
) -> None:
    package = await fleet.device()
    wrong = secrets.token_urlsafe(32)
    async with fleet.powered(package, options=OLD_DEVICE):
        await fleet.until(package, lambda view: view.online)
        match place:
            case "keycloak":
                await change_in_keycloak(stack, package, wrong)
            case "broker":
                label = "0:0123456789abcdef"
                await behind_our_back(stack, "modifyClient", package.client_id, password=wrong, textname=label)
            case _:
                query = "UPDATE mdm.devices SET secret_generation = 5, last_generation = 5 WHERE key = $1"
                await run(stack, query, package.device_key)
        await until(lambda: heals(fleet, package))
        await kept(fleet, stack, package)


async def test_an_old_device_that_is_only_believed_to_be_connected_gets_keycloaks_secret(
    fleet: Fleet, stack: Stack
) -> None:
    """The broker's word that it has dropped a device may be lost; a rotation would wait for it in vain."""
    package = await fleet.device()
    async with fleet.powered(package, options=OLD_DEVICE):
        await fleet.until(package, lambda view: view.online)
        label = {"password": secrets.token_urlsafe(32), "textname": "0:0123456789abcdef"}
        await behind_our_back(stack, "modifyClient", package.client_id, **label)
        await fleet.until(package, lambda view: not view.online)
        await fleet.seen(package, "device/refused")
        await run(stack, SEEN, package.device_key, CAME)
        await examined(fleet, package, repair=True)
        assert not (await fleet.show(package)).online
        await examined(fleet, package, repair=True)
        await kept(fleet, stack, package)


async def test_doctor_says_what_each_place_holds_and_repairs_it(fleet: Fleet, stack: Stack) -> None:
    package = await fleet.device()
    await change_in_keycloak(stack, package, secrets.token_urlsafe(32))
    (found,) = await examined(fleet, package, repair=False)
    assert found.problem.startswith("its secrets differ: database 1 (")
    assert found.remedy == "a new secret, over the broker, as soon as the device is online"
    (repaired,) = await examined(fleet, package, repair=True)
    assert repaired.repaired
    async with fleet.powered(package, options=OLD_DEVICE):
        await fleet.seen(package, "rotation/completed")
        await kept(fleet, stack, package)


@pytest.mark.parametrize("changed", [False, True], ids=["the same secret", "another secret"])
async def test_a_client_that_has_lost_its_generation_gets_one_again(
    fleet: Fleet, stack: Stack, changed: bool
) -> None:
    package = await fleet.device()
    await lose_generation(stack, package)
    if changed:
        await change_in_keycloak(stack, package, secrets.token_urlsafe(32))
    assert await examined(fleet, package, repair=False)
    await examined(fleet, package, repair=True)
    async with fleet.powered(package, options=OLD_DEVICE):
        if changed:
            await fleet.seen(package, "rotation/completed")
        view = await kept(fleet, stack, package)
    assert (view.secret_generation > 1) == changed
    assert not await examined(fleet, package, repair=False)


async def lose_generation(stack: Stack, package: admin.Package) -> None:
    """Take from a client the mapper that says which secret it has."""
    async with client_in_keycloak(stack.endpoints, package) as (http, path, found):
        (mapper,) = [it for it in found["protocolMappers"] if it["name"] == "secret_gen"]
        (await http.delete(f"{path}/protocol-mappers/models/{mapper['id']}")).raise_for_status()


async def test_a_device_that_is_not_heard_after_the_brokers_start_is_not_shown_as_online(
    fleet: Fleet, stack: Stack
) -> None:
    """A broker that is killed publishes no will, and when it is back it keeps what devices had said before."""
    gone, back = await fleet.device(), await fleet.device()
    for package, ago in ((gone, timedelta(hours=1)), (back, timedelta(0))):
        await run(stack, SEEN, package.device_key, ago)
    async with engine.connected(SecretStr(stack.endpoints.database_url)) as database:
        registry: Any = SimpleNamespace(database=database, outbox=Outbox("registry"), broker_started_at=None)
        watch = BrokerWatch(registry)
        await watch.mark_silent()
        assert (await fleet.show(gone)).online
        registry.broker_started_at = datetime.now(UTC) - GRACE
        await watch.mark_silent()
    assert not (await fleet.show(gone)).online
    assert (await fleet.show(back)).online
    await fleet.seen(gone, "device/offline")


async def test_a_device_that_reconnects_before_its_drop_is_heard_of_stays_online(
    fleet: Fleet, stack: Stack
) -> None:
    """The broker's log comes over a connection of its own, and may be behind the device's next status."""
    gone, back, tried = [await fleet.device() for _ in range(3)]
    for package in (gone, back, tried):
        await run(stack, SEEN, package.device_key, timedelta(0))
    async with engine.connected(SecretStr(stack.endpoints.database_url)) as database:
        registry: Any = SimpleNamespace(database=database, outbox=Outbox("registry"), refused_at={}, tried_at={})
        watch = BrokerWatch(registry)
        for line in (
            f"Client {gone.client_id} been disconnected by administrative action.",
            f"Client {back.client_id} been disconnected by administrative action.",
            f"New client connected from 127.0.0.1:1 as {back.client_id} (p5, c0, k60, u'{back.client_id}').",
        ):
            await watch.on_log(Delivery({}, f"1796011888: {line}".encode()))

        # This login is the registry's own, in the device's name.
        line = f"Client {tried.client_id} been disconnected by administrative action."
        await watch.on_log(Delivery({}, line.encode()))
        registry.tried_at[tried.client_id] = datetime.now(UTC)
        line = f"New client connected from 127.0.0.1:1 as {tried.client_id} (p5, c1, k60, u'{tried.client_id}')."
        await watch.on_log(Delivery({}, line.encode()))

        async def is_online(package: admin.Package) -> bool:
            await watch.mark_dropped()
            return (await fleet.show(package)).online

        await until(partial(is_online, gone), lambda online: not online)
        await until(partial(is_online, tried), lambda online: not online)
        assert await is_online(back)
    await fleet.seen(gone, "device/offline")


async def test_addresses_do_not_count_for_a_board_whose_start_another_replica_knows(
    fleet: Fleet, stack: Stack
) -> None:
    """The broker's log goes to each replica, a status to one of them."""
    numbered, old = [await fleet.device() for _ in range(2)]
    async with bare(numbered) as connection:
        await connection.report(messages.Status(online=True, boot=8))
        await fleet.until(numbered, lambda view: view.online)
    async with engine.connected(SecretStr(stack.endpoints.database_url)) as database:
        registry: Any = SimpleNamespace(
            database=database, outbox=Outbox("registry"), clashes=Clashes(), tried_at={}, refused_at={}
        )
        watch = BrokerWatch(registry)
        for package, number in product((numbered, old), range(8)):
            name, address = package.client_id, f"192.168.1.{number % 2}:1"
            for line in (
                f"Client {name} already connected, closing old connection.",
                f"New client connected from {address} as {name} (p5, c0, k60, u'{name}').",
            ):
                await watch.on_log(Delivery({}, f"1796011888: {line}".encode()))
        await watch.mark_clashed()
    assert (await fleet.show(numbered)).clashed_at is None
    assert (await fleet.show(old)).clashed_at is not None
    await fleet.ask(admin.DEVICE_REMOVE, device=old.client_id)


@pytest.mark.usefixtures("patient")
async def test_an_earlier_copy_of_the_database_puts_no_dead_secret_back(fleet: Fleet, stack: Stack) -> None:
    """PostgreSQL loses the commit of a rotation's end, in a failover; the device has given up its old secret."""
    package = await fleet.device()
    async with fleet.powered(package, options=OLD_DEVICE, cut_at="publish.rotation.ack:before") as power:
        await fleet.until(package, lambda view: view.online)
        await fleet.ask(admin.ROTATION_START, device=package.client_id)
        await power.failed()
    await fleet.seen(package, "rotation/switched")
    rows = await rows_of(stack, package)
    promoted = asyncio.Event()

    def note(event: str, _: Mapping[str, object]) -> None:
        if event == "rotation.promoted":
            promoted.set()

    async with fleet.powered(package, options=OLD_DEVICE, hooks=Hooks(on_event=note)):
        async with asyncio.timeout(PATIENCE_S):
            await promoted.wait()
        await fleet.seen(package, "rotation/completed")
    await fleet.until(package, lambda view: not view.online)
    await put_back_rows(stack, package, rows)
    await expire(stack, package)
    await fleet.seen(package, "rotation/completed", acknowledged=False)
    async with fleet.powered(package, options=OLD_DEVICE):
        view = await kept(fleet, stack, package)
    assert view.secret_generation == 2


async def test_an_old_device_whose_account_has_another_secret_than_is_recorded_heals(
    fleet: Fleet, stack: Stack
) -> None:
    """All three places agree by what is recorded: only a login shows that the broker has another one."""
    package = await fleet.device()
    due = "UPDATE mdm.devices SET verify_at = now() WHERE key = $1 AND verify_at > now()"
    async with fleet.powered(package, options=OLD_DEVICE):
        await fleet.until(package, lambda view: view.online)
        await behind_our_back(stack, "setClientPassword", package.client_id, password=secrets.token_urlsafe(32))
        await fleet.until(package, lambda view: not view.online)
        await fleet.seen(package, "device/refused")

        async def is_back() -> bool:
            await run(stack, due, package.device_key)
            return (await fleet.show(package)).online

        await until(is_back)
        await kept(fleet, stack, package)


async def test_a_device_that_was_refused_as_its_account_is_disabled_is_enabled_again(
    fleet: Fleet, stack: Stack
) -> None:
    """A call that enables a device is lost on its way to the broker."""
    package = await fleet.device()
    await behind_our_back(stack, "disableClient", package.client_id)
    assert not await credentials.broker_accepts(package)
    await fleet.seen(package, "device/refused")
    found = await examined(fleet, package, repair=True)
    assert ("is not enabled everywhere", True) in [(it.problem, it.repaired) for it in found]
    assert await credentials.broker_accepts(package)


@asynccontextmanager
async def held(stack: Stack, package: admin.Package) -> AsyncIterator[asyncpg.Connection]:
    """Yield a transaction that has locked a device, and commits when somebody waits for it after the block."""
    connection = await asyncpg.connect(stack.endpoints.database_url.replace("+asyncpg", ""))
    try:
        async with connection.transaction():
            await connection.execute("SELECT FROM mdm.devices WHERE key = $1 FOR UPDATE", package.device_key)
            yield connection
            waits = "SELECT FROM pg_stat_activity WHERE $1 = ANY(pg_blocking_pids(pid))"
            await until(partial(run, stack, waits, connection.get_server_pid()))
    finally:
        await connection.close()


async def rotates(fleet: Fleet, system: System) -> bool:
    """Say whether the rotator still works."""
    package = await fleet.device()
    async with fleet.powered(package):
        await fleet.ask(admin.ROTATION_START, device=package.client_id)
        await fleet.seen(package, "rotation/completed")
    return system.services["rotator"].running


async def test_a_rotation_that_is_gone_when_the_leader_ends_it_ends_no_rotator(
    fleet: Fleet, system: System, stack: Stack
) -> None:
    """The database is restored from an earlier copy after the leader has read what is open."""
    package = await fleet.device()
    await fleet.offered(package)
    await expire(stack, package, in_s=2)
    async with held(stack, package) as connection:
        of_device = "(SELECT id FROM mdm.devices WHERE key = $1)"
        await connection.execute(f"DELETE FROM mdm.rotations WHERE device_id = {of_device}", package.device_key)  # noqa: S608
        idle = "UPDATE mdm.devices SET rotation_state = 'OK', rotation_slot = NULL WHERE key = $1"
        await connection.execute(idle, package.device_key)
    assert await rotates(fleet, system)
    log = system.services["rotator"].log_file.read_text()
    assert [line for line in log.splitlines() if package.client_id in line and "rotation.gone" in line]


async def test_a_device_that_is_removed_when_its_rotation_begins_ends_no_rotator(
    fleet: Fleet, system: System, stack: Stack
) -> None:
    """Its client goes first: the leader finds none, and then no row."""
    package = await fleet.device()
    await fleet.present(package)
    await delete_client(stack, package)
    asked = asyncio.Event()

    def late(method: str, path: str) -> Fault | None:
        if method != "GET" or not path.endswith("/clients"):
            return None
        asked.set()
        return Fault(wait_s=1.0)

    real = stack.endpoints.keycloak_url
    async with (
        keycloak_proxy.running(real) as proxy,
        system.altered("rotator", MDM_KEYCLOAK_URL=proxy.url, MDM_KEYCLOAK_PUBLIC_URL=real),
    ):
        rotator = system.services["rotator"]
        proxy.judge = late
        await fleet.ask(admin.ROTATION_START, device=package.client_id)
        async with asyncio.timeout(PATIENCE_S):
            await asked.wait()
        await run(stack, "DELETE FROM mdm.devices WHERE key = $1", package.device_key)
        await logged(rotator, "rotation.no_identity", package.client_id)
        proxy.judge = lambda _method, _path: None
        assert await rotates(fleet, system)
