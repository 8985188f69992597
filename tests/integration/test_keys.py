"""Master keys on the real stack: changed without losing a secret, and what a rotator does that lacks one."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Coroutine
from pathlib import Path
from typing import Any, Final

import asyncpg
import pytest
from cryptography.fernet import Fernet

from dev import credentials
from dev.database import run
from dev.fleet import Fleet
from dev.stack import Stack
from dev.system import System
from dev.waiting import logged
from shared.protocol import admin
from shared.protocol.admin import Package
from tests.raw import RawDevice

Restart = Callable[..., Coroutine[Any, Any, None]]
OPEN: Final = """
    SELECT r.* FROM mdm.rotations r JOIN mdm.devices d ON d.id = r.device_id
    WHERE d.key = $1 AND r.outcome IS NULL"""


async def open_rotation(stack: Stack, package: Package) -> asyncpg.Record:
    [row] = await run(stack, OPEN, package.device_key)
    return row


@pytest.fixture
async def restart(no_rotations: None, system: System) -> AsyncIterator[Restart]:
    """Restart the rotator with these keys, a long deadline and two slots; at the end it is as it was."""
    del no_rotations

    async def again(keys: str = "", *, file: str = "") -> None:
        source = {"MDM_MASTER_KEYS_FILE": file} if file else {}
        await system.restart(
            "rotator",
            MDM_ROTATION_DEADLINE_S="120",
            MDM_ROTATION_MAX_PARALLEL="2",
            MDM_MASTER_KEYS=keys,
            fate=None,
            **source,
        )

    yield again
    await system.restart("rotator")


async def offered(fleet: Fleet, package: Package) -> None:
    """Begin a rotation whose offer the device loses with its power."""
    async with fleet.powered(package, cut_at="publish.rotation.request:before") as power:
        await fleet.until(package, lambda view: view.online)
        await fleet.ask(admin.ROTATION_START, device=package.client_id)
        await power.failed()


async def switched(fleet: Fleet, package: Package) -> None:
    """Begin a rotation that goes on until its new secret is in force, and leave it there."""
    async with RawDevice(package, online=True) as device:
        await fleet.ask(admin.ROTATION_START, device=package.client_id)
        await device.store_secret()
        await fleet.seen(package, "rotation/switched")


async def test_a_rotator_that_lacks_a_key_says_so_goes_on_with_others_and_completes_once_it_has_it(
    fleet: Fleet, stack: Stack, system: System, restart: Restart
) -> None:
    package, other = await fleet.device(), await fleet.device()
    old, new = system.own["rotator"]["MDM_MASTER_KEYS"], Fernet.generate_key().decode()
    await restart(old)
    await offered(fleet, package)
    before = await open_rotation(stack, package)

    await restart(new)
    await logged(system.services["rotator"], "rotation.stuck", str(before["id"]), "MDM_MASTER_KEYS")
    rekeyed = await fleet.ask(admin.SECRETS_REKEY)
    assert package.client_id in rekeyed.unreadable.names
    async with fleet.powered(other), fleet.powered(package):
        await fleet.until(other, lambda view: view.online)
        await fleet.ask(admin.ROTATION_START, device=other.client_id)
        await fleet.seen(other, "rotation/completed")
        assert await open_rotation(stack, package) == before

        await restart(f"{new},{old}")
        await fleet.seen(package, "rotation/completed")
    assert (await fleet.show(package)).secret_generation == 2


@pytest.mark.parametrize("begin", [offered, switched])
async def test_a_rotator_that_lacks_a_key_does_not_end_a_rotation_though_its_time_is_up(
    fleet: Fleet,
    stack: Stack,
    system: System,
    restart: Restart,
    begin: Callable[[Fleet, Package], Coroutine[Any, Any, None]],
) -> None:
    package = await fleet.device()
    await restart(system.own["rotator"]["MDM_MASTER_KEYS"])
    await begin(fleet, package)
    await restart(Fernet.generate_key().decode())
    statement = "UPDATE mdm.rotations SET deadline_at = now() WHERE outcome IS NULL AND id = $1"
    await run(stack, statement, (await open_rotation(stack, package))["id"])
    before = await open_rotation(stack, package)

    rotator = system.services["rotator"]
    await logged(rotator, "rotation.stuck", str(before["id"]), beyond=rotator.log_size)
    assert await open_rotation(stack, package) == before

    await restart(system.own["rotator"]["MDM_MASTER_KEYS"])
    await fleet.seen(package, "rotation/timed_out")
    assert await credentials.keycloak_accepts(package)
    assert await credentials.broker_accepts(package)


async def test_after_a_rekey_the_new_key_alone_completes_what_the_old_one_began(
    fleet: Fleet, stack: Stack, system: System, restart: Restart, tmp_path: Path
) -> None:
    package = await fleet.device()
    old, new = system.own["rotator"]["MDM_MASTER_KEYS"], Fernet.generate_key().decode()
    await restart(old)
    await offered(fleet, package)

    file = tmp_path / "master-keys"
    file.write_text(f"{new}\n{old}\n")
    await restart(file=str(file))
    request = admin.SECRETS_REKEY.request(request_id=f"rekey-{package.device_key}")
    first = await fleet.admin.call(admin.SECRETS_REKEY, request)
    stored = await open_rotation(stack, package)
    again = await fleet.admin.call(admin.SECRETS_REKEY, request)
    assert (first.reencrypted, first.unreadable) == (1, admin.Named(count=0, names=[]))
    assert again == first
    assert await open_rotation(stack, package) == stored  # the same request is answered, not done again
    anew = await fleet.ask(admin.SECRETS_REKEY)
    assert (anew.reencrypted, anew.unreadable.count) == (1, 0)

    file.write_text(new)
    await restart(file=str(file))
    async with fleet.powered(package):
        await fleet.seen(package, "rotation/completed")
    view = await fleet.show(package)
    assert (view.rotation_state, view.secret_generation) == ("OK", 2)
