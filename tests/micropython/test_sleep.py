"""The device for MicroPython asleep between two connections, on the real services."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from pathlib import Path
from uuid import uuid4

import pytest

from dev.devices import micropython_device as powered
from dev.fleet import Fleet
from dev.stack import Stack
from dev.uploads import upload
from dev.waiting import until
from device import image_builder
from shared.protocol import admin, messages, topics
from tests.micropython.board import needs_micropython
from tests.micropython.test_device import flashed, send

pytestmark = needs_micropython


@pytest.mark.parametrize("light", [False, True], ids=["deep", "light"])
async def test_it_sleeps_wakes_for_its_commands_and_rotates(fleet: Fleet, tmp_path: Path, light: bool) -> None:
    package = await fleet.device(await fleet.model(commands=["echo"]))
    async with powered(package, tmp_path / "board", wake_interval_s=1, light=light) as board:
        asleep = await fleet.until(package, lambda view: view.presence == "asleep")
        assert (asleep.wake_interval_s, asleep.has_key, asleep.flaws) == (1, True, [])
        await fleet.ask(admin.COMMAND_SEND, device=package.client_id, name="echo", arguments={}, expires_in_s=600)
        await fleet.ask(admin.CONFIG_SET, device=package.client_id, overrides={"interval_s": 60}, trial_seconds=60)
        assert (await fleet.seen(package, "command/answered")).data["ok"]
        await fleet.until(package, lambda view: view.config_version_reported == view.config_version)
        await fleet.ask(admin.ROTATION_START, device=package.client_id)
        await fleet.seen(package, "rotation/completed", generation=2)
        await fleet.until(package, lambda view: view.presence == "asleep")
        await board.says("asleep", "1")


async def test_it_stays_awake_for_an_image_and_for_its_trial(fleet: Fleet, tmp_path: Path) -> None:
    model = await fleet.model()
    package = await fleet.device(model)
    flashed(tmp_path / "board", model)
    image = image_builder.build(version="1.1.0", project=model, size_bytes=90_016)
    async with powered(package, tmp_path / "board", wake_interval_s=1) as board:
        await board.says("asleep")
        await upload(fleet, model, image)
        await fleet.seen(package, "firmware/reported", stage="confirmed")
        await fleet.until(package, lambda view: view.presence == "asleep" and view.firmware_version == "1.1.0")


async def test_it_stays_awake_while_an_offer_is_wanted(fleet: Fleet, stack: Stack, tmp_path: Path) -> None:
    package = await fleet.device()
    rotation_id, deadline = uuid4(), datetime.now(UTC) + timedelta(hours=1)
    offer = messages.RotationOffer(rotation_id=rotation_id, deadline=deadline, generation=2, current_generation=1)
    async with powered(package, tmp_path / "board", wake_interval_s=1) as board:
        await board.says("asleep")
        await send(stack, topics.ROTATION_OFFER, package, offer)  # nobody answers its requests
        await board.reached("publish.rotation.request:after", 5)
        request = board.said.index(("step", "publish.rotation.request:after"))
        assert "asleep" not in [word for word, _ in board.said[request:]]
        nights = board.said.count(("asleep", "1"))
        cancelled = messages.RotationCancelled(rotation_id=rotation_id, reason="a test")
        await send(stack, topics.ROTATION_CANCELLED, package, cancelled)
        await until(lambda: rested(board.said), lambda count: count > nights)


async def rested(said: list[tuple[str, str]]) -> int:
    """Return how often a board has slept."""
    return said.count(("asleep", "1"))


async def test_without_a_connection_it_sleeps_after_minutes_and_tries_again(fleet: Fleet, tmp_path: Path) -> None:
    package = await fleet.device()
    dead = package.model_copy(update={"mqtt_port": 1})
    times = {"awake_ms": 500, "quiet_ms": 100}
    async with powered(dead, tmp_path / "board", wake_interval_s=1, times=times) as board:
        await until(lambda: rested(board.said), lambda count: count == 2)
    async with powered(package, tmp_path / "board", wake_interval_s=1):
        await fleet.until(package, lambda view: view.presence == "asleep" and view.has_key)
