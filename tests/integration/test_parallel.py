"""How many devices rotate at a time, on the real stack: as many as the setting says, and never more."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator

import pytest

from dev.database import run
from dev.fleet import Fleet
from dev.stack import Stack
from dev.system import System
from dev.waiting import PATIENCE_S, until
from shared.protocol import admin

EXPIRE = "UPDATE mdm.rotations SET deadline_at = now() WHERE outcome IS NULL"


async def restart(system: System, max_parallel: int) -> None:
    await system.restart("rotator", MDM_ROTATION_MAX_PARALLEL=str(max_parallel))


async def in_state(fleet: Fleet, state: str) -> set[str]:
    """The client ids of all devices in this state of rotation."""
    page = await fleet.ask(admin.DEVICE_LIST, rotation_state=state)
    return {device.client_id for device in page.devices}


@pytest.fixture(autouse=True)
async def idle(fleet: Fleet, system: System, stack: Stack) -> AsyncIterator[None]:
    """Begin without rotations, whatever other tests have left, and have the usual rotator back afterwards."""
    await run(stack, "UPDATE mdm.devices SET rotation_state = 'OK' WHERE rotation_state = 'QUEUED'")
    await run(stack, EXPIRE)
    await fleet.witness.until(lambda: in_state(fleet, "PENDING"), lambda found: not found)
    yield
    await run(stack, "UPDATE mdm.devices SET rotation_state = 'OK' WHERE rotation_state = 'QUEUED'")
    await run(stack, EXPIRE)
    await system.restart("rotator")


async def test_two_slots_let_two_of_four_devices_rotate_at_once_and_never_more(
    fleet: Fleet, system: System, stack: Stack
) -> None:
    await restart(system, 2)
    model = await fleet.model()
    packages = [await fleet.device(model) for _ in range(4)]
    for package in packages:
        await fleet.present(package)
        await fleet.ask(admin.ROTATION_START, device=package.client_id)
    most = 0
    async with asyncio.timeout(PATIENCE_S):
        while len(await in_state(fleet, "TIMEOUT") & {package.client_id for package in packages}) < 4:
            most = max(most, len(await in_state(fleet, "PENDING")))
    assert most == 2
    # What the looks in between have not seen: at each start, those that had begun and not ended.
    at_once = await run(
        stack,
        """
        SELECT (SELECT count(*) FROM mdm.rotations other WHERE other.started_at <= one.started_at
                AND (other.ended_at IS NULL OR other.ended_at > one.started_at))
        FROM mdm.rotations one JOIN mdm.devices ON devices.id = one.device_id WHERE devices.key = ANY($1)
        """,
        [package.device_key for package in packages],
    )
    assert max(row["count"] for row in at_once) == 2


async def test_slots_that_are_too_many_stay_until_they_are_free(
    fleet: Fleet, system: System, stack: Stack
) -> None:
    await restart(system, 2)
    model = await fleet.model()
    first, second, third = [await fleet.device(model) for _ in range(3)]
    for package in (first, second):
        await fleet.offered(package)
    await run(stack, "UPDATE mdm.rotations SET deadline_at = now() + interval '1 hour' WHERE outcome IS NULL")

    await restart(system, 1)
    await fleet.present(third)
    await fleet.ask(admin.ROTATION_START, device=third.client_id)
    assert await in_state(fleet, "PENDING") == {first.client_id, second.client_id}
    of_first = " AND device_id = (SELECT id FROM mdm.devices WHERE key = $1)"
    await run(stack, EXPIRE + of_first, first.device_key)
    await fleet.seen(first, "rotation/timed_out")
    await until(lambda: run(stack, "SELECT slot FROM mdm.rotation_slots"), lambda rows: len(rows) == 1)
    assert (await fleet.show(third)).rotation_state == "QUEUED"

    await run(stack, EXPIRE)
    await fleet.seen(second, "rotation/timed_out")
    await fleet.seen(third, "rotation/offered")
