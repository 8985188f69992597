"""Two boards with one package end each other's connection; a single one, however bad its connection, does not."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import AsyncExitStack
from functools import partial

from dev.fleet import OPTIONS, Fleet, powered
from dev.system import System
from dev.waiting import until
from shared.protocol import admin, messages
from shared.protocol.admin import Package
from tests.bare_connection import bare
from tests.connections import ELSEWHERE

HERE = "127.0.0.1"


async def test_two_boards_with_one_package_are_told(fleet: Fleet, system: System) -> None:
    package = await fleet.device()
    look = partial(fleet.show, package)
    log = system.services["registry"]
    before = log.log_file.stat().st_size
    async with (
        powered(package, fleet.folder / "one", options=OPTIONS),
        powered(package, fleet.folder / "other", options=OPTIONS),
    ):
        await fleet.seen(package, "device/clashed")
        assert await until(look, lambda view: view.clashed_at)
        (finding,) = [it for it in await found(fleet, package) if "two boards" in it.problem]
        assert "package of its own" in finding.remedy
    lines = log.log_since(before).splitlines()
    assert len([line for line in lines if b"device.clashed" in line and package.client_id.encode() in line]) == 1
    assert not fleet.witness.remembers(package.client_id, "device/clashed")
    await fleet.ask(admin.DEVICE_REMOVE, device=package.client_id)


async def found(fleet: Fleet, package: Package) -> list[admin.Finding]:
    return [it for it in (await fleet.ask(admin.DOCTOR)).findings if it.subject == package.client_id]


async def connections(package: Package, sources: Sequence[str], status: messages.Status) -> None:
    """Log in from each address in turn, each time in place of the connection before, and report online."""
    async with AsyncExitStack() as stack:
        for source in sources:
            connection = await stack.enter_async_context(bare(package, source=source))
            await connection.report(status)


async def test_two_boards_with_old_firmware_are_told_by_their_addresses(fleet: Fleet) -> None:
    package = await fleet.device()
    await connections(package, [HERE, ELSEWHERE] * 4, messages.Status(online=True))
    await fleet.seen(package, "device/clashed")
    assert await until(partial(fleet.show, package), lambda view: view.clashed_at)
    await fleet.ask(admin.DEVICE_REMOVE, device=package.client_id)


async def test_a_single_board_with_a_bad_connection_is_not_taken_for_two(fleet: Fleet) -> None:
    """The broker learns of each loss by the next connection only, which takes the session over."""
    model = await fleet.model()
    old, new, roaming, restarting = [await fleet.device(model) for _ in range(4)]
    await connections(old, [HERE] * 12, messages.Status(online=True))
    await connections(new, [HERE] * 12, messages.Status(online=True, boot=7))
    await connections(roaming, [HERE, ELSEWHERE] * 6, messages.Status(online=True, boot=8))
    for boot in range(12):
        await connections(restarting, [HERE], messages.Status(online=True, boot=boot))
    # What they sent is handled in its order, and before what is sent after it.
    witness = await fleet.device(model)
    await connections(witness, [HERE, ELSEWHERE] * 4, messages.Status(online=True))
    await fleet.seen(witness, "device/clashed")
    for package in (old, new, roaming, restarting):
        assert (await fleet.show(package)).clashed_at is None
        assert not fleet.witness.remembers(package.client_id, "device/clashed")
    await fleet.ask(admin.DEVICE_REMOVE, device=witness.client_id)


async def test_a_board_that_is_rotated_again_and_again_is_not_taken_for_two(fleet: Fleet) -> None:
    package = await fleet.device()
    async with fleet.powered(package):
        await fleet.until(package, lambda view: view.online)
        for generation in range(2, 6):
            await fleet.ask(admin.ROTATION_START, device=package.client_id)
            await fleet.seen(package, "rotation/completed", generation=generation)
    assert (await fleet.show(package)).clashed_at is None
