"""The power of a device on MicroPython is cut, with kill -9, at each of its durable writes."""

from __future__ import annotations

import asyncio
import json
from functools import partial
from pathlib import Path

from dev.credentials import broker_accepts
from dev.fleet import Fleet
from dev.stack import Stack
from dev.uploads import upload
from dev.waiting import until
from device import image_builder
from shared.protocol import admin, topics
from shared.protocol.admin import Package
from tests.matrix import Case, Matrix
from tests.micropython.board import Board, needs_micropython, powered
from tests.micropython.test_device import flashed, offer, profile_of, read, send, settled

pytestmark = needs_micropython
AT_ONCE = 4


async def rotated(fleet: Fleet, package: Package) -> int:
    """Wait until a device has a new secret; a rotation that was in progress may have ended without one."""
    while True:
        view = await fleet.until(package, lambda view: view.rotation_state in {"OK", "TIMEOUT"})
        if view.secret_generation > 1:
            return view.secret_generation
        await fleet.ask(admin.ROTATION_START, device=package.client_id)


async def steps_of(fleet: Fleet, folder: Path) -> list[str]:
    """Return the durable writes of a device from its first start to the end of a rotation."""
    package = await fleet.device()
    async with powered(package, folder) as board:
        await fleet.ask(admin.ROTATION_START, device=package.client_id)
        await fleet.seen(package, "rotation/completed")
        await board.says("log", "rotation: the second slot: promote")
        return cuts(board.steps)


def cuts(steps: list[str]) -> list[str]:
    """Return the steps at which the power is cut: where a write is half done or done, and before that of a secret.

    Before any other write, the flash is as it was after the one before.
    """
    return [step for step in steps if ":before" not in step or step.startswith("slots")]


async def test_after_a_power_cut_at_any_write_it_comes_back_and_gets_a_new_secret(
    fleet: Fleet, tmp_path: Path
) -> None:
    matrix = Matrix("MicroPython: power cuts at each durable write")
    steps = await steps_of(fleet, tmp_path / "steps")
    assert {step.partition(":")[0] for step in steps} >= {"key", "slots", "connection", "recovery", "config"}
    turns = asyncio.Semaphore(AT_ONCE)

    async def survive(step: str, folder: Path, case: Case) -> None:
        package = await fleet.device()
        await fleet.ask(admin.ROTATION_START, device=package.client_id)
        async with powered(package, folder, cut_at=step) as board:
            await board.says("cut", step)
        async with powered(package, folder):
            secret = await settled(folder, await rotated(fleet, package))
        assert await broker_accepts(package, secret)
        case.outcome = "back, with a new secret"

    async def one(number: int, step: str) -> None:
        async with turns, matrix.case(step) as case:
            await survive(step, tmp_path / str(number), case)

    await asyncio.gather(*(one(number, step) for number, step in enumerate(steps)))
    matrix.end()


async def live(fleet: Fleet, stack: Stack, package: Package, board: Board) -> None:
    """Send a device a command, another connection profile, and a configuration on trial, one after the other."""
    await fleet.until(package, lambda view: view.config_outcome == "applied" and view.has_key)
    command = await fleet.ask(
        admin.COMMAND_SEND, device=package.client_id, name="measure", arguments={}, expires_in_s=60
    )
    await until(
        lambda: fleet.ask(admin.COMMAND_SHOW, batch_id=command.batch_id),
        lambda page: page.commands[0].outcome == "ok",
    )
    other = profile_of(package).model_copy(update={"token_url": f"{package.token_url}?other"})
    await send(stack, topics.CONNECTION, package, offer("0" * 16, 30, other))
    await board.says("log", f"connection: keeps {'0' * 16}")
    await fleet.ask(admin.CONFIG_SET, device=package.client_id, overrides={"interval_s": 7}, trial_seconds=30)
    await fleet.until(package, lambda view: view.config_version_reported == 2)


async def test_after_a_power_cut_at_any_write_of_its_life_it_comes_back(
    fleet: Fleet, stack: Stack, tmp_path: Path
) -> None:
    matrix = Matrix("MicroPython: power cuts at each durable write for commands, profiles and trials")
    model = await fleet.model(commands=["measure"])
    package = await fleet.device(model)
    async with powered(package, tmp_path / "steps") as board:
        await board.says("connected")
        begun = len(board.steps)
        await live(fleet, stack, package, board)
        steps = [step for step in cuts(board.steps[begun:]) if not step.startswith("recovery")]
    assert {step.partition(":")[0] for step in steps} >= {"commands", "connection", "profile_b", "config"}
    turns = asyncio.Semaphore(AT_ONCE)

    async def one(number: int, step: str) -> None:
        package, folder = await fleet.device(model), tmp_path / str(number)
        async with turns, matrix.case(step) as case:
            async with powered(package, folder, cut_at=step) as board:
                living = asyncio.create_task(live(fleet, stack, package, board))
                await board.says("cut", step)
                living.cancel()
            async with powered(package, folder):
                await fleet.ask(admin.ROTATION_START, device=package.client_id)
                await settled(folder, await rotated(fleet, package))
            case.outcome = "back, with a new secret"

    await asyncio.gather(*(one(number, step) for number, step in enumerate(steps)))
    matrix.end()


async def test_after_a_power_cut_at_any_write_of_an_update_it_runs_the_new_image(
    fleet: Fleet, tmp_path: Path
) -> None:
    matrix = Matrix("MicroPython: power cuts at each durable write of an update")
    model = await fleet.model()
    image = image_builder.build(version="1.1.0", project=model, size_bytes=80_000)
    await upload(fleet, model, image)
    turns = asyncio.Semaphore(AT_ONCE)

    async def updated(folder: Path, step: str | None = None) -> list[str]:
        """Let a new device update itself, with a power cut, and return its writes."""
        package = await fleet.device(model)
        flashed(folder, model)
        if step is not None:
            async with powered(package, folder, cut_at=step) as board:
                await board.says("cut", step)
        async with powered(package, folder) as board:
            await fleet.seen(package, "firmware/reported", stage="confirmed")
            await until(partial(read, folder, "firmware"), lambda kept: kept["outcome"] is None)
        state = json.loads((folder / "flash" / "otadata.json").read_text())
        assert (state["boot"], state["states"][1]) == (1, "valid")
        assert (folder / "flash" / "ota_1.bin").read_bytes()[: len(image)] == image
        return board.steps

    async def one(number: int, step: str) -> None:
        async with turns, matrix.case(step) as case:
            await updated(tmp_path / str(number), step)
            case.outcome = "updated"

    steps = await updated(tmp_path / "steps")
    # A step is named as in the run from which it comes: those after a restart begin to count anew.
    restart = len(steps) - steps[::-1].index("firmware:before#1") - 1
    before = [step for step in cuts(steps[:restart]) if step.startswith(("firmware", "download"))]
    await asyncio.gather(*(one(number, step) for number, step in enumerate(before)))
    matrix.end()
