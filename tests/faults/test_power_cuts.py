"""The power of each kind of device is cut at each of its durable writes: before it, half way, and after it.

The points are those that one run takes; the reference device is cut around its publications too, the others
outside a rotation at a sample of the points, drawn by `MATRIX_SEED`. With `FAULTS=all` each is cut everywhere. At
the end each device has a secret that works, and can get the next one.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable
from pathlib import Path
from typing import Final

import pytest

from dev.crash_injection import CrashPoint
from dev.device_kinds import MICROPYTHON, REFERENCE, DeviceKind
from dev.fleet import Fleet
from dev.system import System
from dev.uploads import upload
from dev.waiting import until
from device import image_builder
from shared.protocol import admin
from shared.protocol.admin import Package
from tests.devices import ALL_FAULTS, cuts, every_device, sample
from tests.faults.promise import ended, expire, kept
from tests.matrix import Case, Matrix

SIDE_BY_SIDE: Final = 4
SAMPLE: Final = 15
IMAGE_BYTES: Final = 80_000


@pytest.fixture
async def patient(system: System) -> AsyncIterator[System]:
    """Run the rotator with a deadline that never comes by itself."""
    async with system.altered("rotator", MDM_ROTATION_DEADLINE_S="120", MDM_SWEEP_S="0.2"):
        yield system


async def cut_at_each(
    title: str, points: Iterable[CrashPoint], survive: Callable[[CrashPoint, int, Case], Awaitable[None]]
) -> None:
    """Run the cases of a matrix, some of them at once."""
    matrix, turns = Matrix(title), asyncio.Semaphore(SIDE_BY_SIDE)

    async def one(point: CrashPoint, number: int) -> None:
        async with turns, matrix.case(point) as case:
            await survive(point, number, case)

    await asyncio.gather(*(one(point, number) for number, point in enumerate(points)))
    matrix.end()


@every_device
async def test_a_device_whose_power_is_cut_in_a_rotation_can_log_in(
    fleet: Fleet, patient: System, tmp_path: Path, kind: DeviceKind
) -> None:
    package = await fleet.device()
    await fleet.offered(package)
    async with kind.powered(package, tmp_path / package.client_id) as power:
        await fleet.seen(package, "rotation/completed")
        await kept(fleet, patient.stack, package)
        points = cuts(kind, power.steps)
    assert any(point.step.startswith(kind.secrets) for point in points)

    async def survive(point: CrashPoint, number: int, case: Case, *, late: bool) -> None:
        package = await fleet.device()
        await fleet.offered(package)
        state = tmp_path / f"{number}-{late}"
        async with kind.powered(package, state, cut_at=point) as power:
            await power.failed()
        if late:
            await expire(patient.stack, package)
            await ended(fleet, patient.stack, package)
        async with kind.powered(package, state):
            case.outcome = (await kept(fleet, patient.stack, package)).rotation_state

    async def each(point: CrashPoint, number: int, case: Case) -> None:
        """Let it be back at once, and after the deadline; usually one of them, in turns."""
        if ALL_FAULTS or number % 2 == 0:
            await survive(point, number, case, late=False)
        if ALL_FAULTS or number % 2 == 1:
            await survive(point, number, case, late=True)

    await cut_at_each(f"{kind}: power cuts in a rotation, back at once and after the deadline", points, each)


async def live(fleet: Fleet, package: Package) -> None:
    """Send a device a command, another connection profile, and a configuration on trial, one after the other."""
    await fleet.until(package, lambda view: view.config_outcome == "applied" and view.has_key)
    command = await fleet.ask(
        admin.COMMAND_SEND, device=package.client_id, name="echo", arguments={}, expires_in_s=600
    )
    await until(
        lambda: fleet.ask(admin.COMMAND_SHOW, batch_id=command.batch_id),
        lambda page: page.commands[0].outcome == "ok",
    )
    await fleet.ask(admin.CONNECTION_SET, device=package.client_id, token_url=f"{package.token_url}?other")
    await fleet.seen(package, "connection/applied")
    await fleet.ask(admin.CONFIG_SET, device=package.client_id, overrides={"interval_s": 7}, trial_seconds=60)
    await fleet.until(package, lambda view: (view.config_version_reported, view.config_outcome) == (2, "applied"))


async def rotated(fleet: Fleet, package: Package) -> None:
    """Rotate until a device has a new secret; an attempt may end without one."""
    view = await fleet.until(package, lambda view: view.online)
    while view.secret_generation == 1:
        await fleet.ask(admin.ROTATION_START, device=package.client_id)
        view = await fleet.until(package, lambda view: view.rotation_state in {"OK", "TIMEOUT"})


@every_device
async def test_a_device_whose_power_is_cut_in_its_life_comes_back(
    fleet: Fleet, tmp_path: Path, kind: DeviceKind
) -> None:
    if kind is REFERENCE and not ALL_FAULTS:
        pytest.skip("test_connection_matrix.py and others cut the reference device's power at these points")
    model = await fleet.model(commands=["echo"])
    package = await fleet.device(model)
    async with kind.powered(package, tmp_path / package.client_id) as power:
        await fleet.until(package, lambda view: view.config_outcome == "applied" and view.has_key)
        begun = len(power.steps)
        await live(fleet, package)
        points = [it for it in cuts(kind, power.steps) if it.step in set(power.steps[begun:])]
    points = [it for it in points if not it.step.startswith("publish.")]
    assert any(point.step.startswith(kind.profiles) for point in points)

    async def survive(point: CrashPoint, number: int, case: Case) -> None:
        package, state = await fleet.device(model), tmp_path / str(number)
        async with kind.powered(package, state, cut_at=point) as power:
            living = asyncio.create_task(live(fleet, package))
            await power.failed()
            living.cancel()
        async with kind.powered(package, state):
            await rotated(fleet, package)
        case.outcome = "back, with a new secret"

    points, drawn = sample(kind, points, SAMPLE)
    await cut_at_each(f"{kind}: power cuts in a life with commands, profiles and trials{drawn}", points, survive)


@every_device
async def test_a_device_whose_power_is_cut_in_an_update_ends_it(
    fleet: Fleet, tmp_path: Path, kind: DeviceKind
) -> None:
    """The simulated board for MicroPython has a bootloader as ESP-IDF's, which gives a new image one start: if the
    power is cut in it, the old image is back, and reports that.
    """
    model = await fleet.model()
    first = image_builder.build(version="1.0.0", project=model, size_bytes=4_992)
    await upload(fleet, model, image_builder.build(version="1.1.0", project=model, size_bytes=IMAGE_BYTES))

    async def update(state: Path, cut_at: CrashPoint | None = None) -> tuple[list[str], str]:
        """Let a new device update itself; return its steps, and how that ended."""
        package = await fleet.device(model)
        if cut_at is not None:
            async with kind.powered(package, state, cut_at=cut_at, image=first) as power:
                await power.failed()
        async with kind.powered(package, state, image=first) as power:
            shown = await until(
                lambda: fleet.ask(admin.FIRMWARE_OF, devices=[package.client_id]),
                lambda shown: shown.devices[0].stage == "confirmed" or shown.devices[0].withheld is not None,
            )
            outcome = "confirmed" if shown.devices[0].up_to_date else "rolled back"
            await fleet.until(package, lambda view: view.online)
        return power.steps, outcome

    async def survive(point: CrashPoint, number: int, case: Case) -> None:
        _, case.outcome = await update(tmp_path / str(number), point)
        assert case.outcome == "confirmed" or kind is MICROPYTHON

    steps, outcome = await update(tmp_path / "steps")
    assert outcome == "confirmed"
    points = [it for it in cuts(kind, steps) if not it.step.startswith("publish.")]
    points, drawn = sample(kind, points, SAMPLE)
    await cut_at_each(f"{kind}: power cuts in an update{drawn}", points, survive)
