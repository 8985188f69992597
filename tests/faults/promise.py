"""The promise, as it can be looked at from outside: the device can log in, and nothing is left half done."""

from __future__ import annotations

from uuid import UUID

from dev import credentials
from dev.database import run
from dev.fleet import Fleet
from dev.stack import Stack
from dev.waiting import until
from shared.protocol import admin
from shared.protocol.admin import DeviceView, Package

ENDED = ("OK", "TIMEOUT")
_OF_DEVICE = (
    "SELECT rotations.id FROM mdm.rotations JOIN mdm.devices ON devices.id = device_id WHERE key = $1 AND {}"
)


async def expire(stack: Stack, package: Package, *, in_s: int = 0) -> None:
    """Let the deadline of a device's rotation be now or soon, instead of waiting for it."""
    await run(
        stack,
        "UPDATE mdm.rotations SET deadline_at = now() + make_interval(secs => $2) "
        "WHERE outcome IS NULL AND device_id = (SELECT id FROM mdm.devices WHERE key = $1)",
        package.device_key,
        in_s,
    )


async def open_rotations(stack: Stack, package: Package) -> list[UUID]:
    """Return the rotations of a device that have not ended."""
    query = _OF_DEVICE.format("rotations.outcome IS NULL")
    return [UUID(str(row[0])) for row in await run(stack, query, package.device_key)]


async def all_said(stack: Stack) -> None:
    """Wait until nothing is left in the outbox."""
    await until(lambda: run(stack, "SELECT id FROM mdm.outbox LIMIT 1"), lambda rows: not rows)


async def ended(fleet: Fleet, stack: Stack, package: Package) -> DeviceView:
    """Wait until no rotation of a device is queued or in progress; others may be."""
    view = await until(lambda: fleet.show(package), lambda view: view.rotation_state in ENDED)
    await until(lambda: open_rotations(stack, package), lambda rotations: not rotations)
    return view


async def kept(fleet: Fleet, stack: Stack, package: Package) -> DeviceView:
    """Check the promise for a device whose rotation has ended; it must be running, and is online at the end.

    Keycloak and broker hold the same secret, the database none of its secrets, and the device itself gets in again
    with what its flash holds.
    """
    view = await ended(fleet, stack, package)
    secrets = _OF_DEVICE.format("(new_secret IS NOT NULL OR old_secret IS NOT NULL)")
    assert not await run(stack, secrets, package.device_key), "a secret is left in the database"
    slot = "SELECT id FROM mdm.devices WHERE rotation_slot IS NOT NULL AND key = $1"
    assert not await run(stack, slot, package.device_key), "a slot is left"
    valid = await fleet.ask(admin.DEVICE_PROVISION, device=package.client_id)
    assert valid.secret_generation == view.secret_generation, (valid.secret_generation, view)
    assert await credentials.keycloak_accepts(valid), "Keycloak refuses its own secret"
    before = (await fleet.show(package)).last_seen_at
    # The broker gives the session to this client, and so drops the device, which must get in again by itself.
    assert await credentials.broker_accepts(valid), "the broker wants another secret than Keycloak"
    return await fleet.until(package, lambda view: view.online and view.last_seen_at != before)


async def survives_a_power_cut(fleet: Fleet, package: Package, point: str) -> None:
    """Cut a device's power at a point of a rotation; back again, it must log in and get a new secret."""
    async with fleet.powered(package, cut_at=point) as power:
        await fleet.until(package, lambda view: view.online)
        await fleet.ask(admin.ROTATION_START, device=package.client_id)
        await power.failed()
        await fleet.until(package, lambda view: view.rotation_state == "TIMEOUT" or view.secret_generation == 2)
    async with fleet.powered(package):
        await fleet.until(package, lambda view: view.online)
        await fleet.ask(admin.ROTATION_START, device=package.client_id)
        await fleet.seen(package, "rotation/completed")
