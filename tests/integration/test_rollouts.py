"""Rollouts on the real stack: waves open in their turn, failures halt, and nobody is offered an image twice."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from functools import partial
from typing import Final
from uuid import uuid4

import pytest

from cli.client import AnswerError
from device import image_builder
from shared import admin, messages, topics
from shared.admin import Package, RolloutStatus
from shared.messages import FirmwareStage
from tests.database import run
from tests.fleet import Fleet
from tests.integration.test_firmware import upload
from tests.raw import RawDevice
from tests.stack import Stack
from tests.swarm import OLD, SLOT_BYTES, Fate, Swarm, packages, status, swarming
from tests.system import System

AT_ONCE: Final = {"soak_s": 0, "offers_per_minute": 10_000, "max_under_way": 10_000}
PATIENCE_S: Final = 60


@pytest.fixture(scope="module", autouse=True)
async def quick(system: System) -> AsyncIterator[None]:
    """Run two firmware services that look at rollouts all the time."""
    await asyncio.to_thread(system.stop, "firmware")
    for name in ("firmware", "firmware-2"):
        await asyncio.to_thread(partial(system.start, "firmware", name=name, MDM_ROLLOUT_SWEEP_S="0.1"))
    yield
    await asyncio.to_thread(system.stop, "firmware-2")
    await asyncio.to_thread(system.stop, "firmware")
    await asyncio.to_thread(system.start, "firmware")


async def stored(fleet: Fleet, model: str, version: str = "1.1.0", *, release: bool = False) -> str:
    """Upload an image of a model and return its SHA-256."""
    image = image_builder.build(version=version, project=model)
    return (await upload(fleet, model, image, release=release)).sha256


async def fit(fleet: Fleet, model: str, count: int, version: str = "1.1.0") -> None:
    """Wait until so many devices would take an image."""
    async with asyncio.timeout(PATIENCE_S):
        while (await fleet.ask(admin.ROLLOUT_PREFLIGHT, model=model, version=version)).fit != count:
            pass


async def until(fleet: Fleet, rollout: int, holds: Callable[[RolloutStatus], object]) -> RolloutStatus:
    """Look at a rollout until it stands so."""
    found = await fleet.ask(admin.ROLLOUT_STATUS, rollout=rollout)
    try:
        async with asyncio.timeout(PATIENCE_S):
            while not holds(found):
                found = await fleet.ask(admin.ROLLOUT_STATUS, rollout=rollout)
    except TimeoutError:
        raise AssertionError(f"not so within {PATIENCE_S} s: {found}") from None
    return found


def stands(found: RolloutStatus, wave: int = 1) -> dict[str, int]:
    """How the devices of a wave stand, those of whom there are some."""
    for one in found.counts:
        if one.wave == wave:
            return {name: count for name, count in one.counts.model_dump().items() if count}
    return {}


async def expire(stack: Stack, rollout: int) -> None:
    """Let the patience with all devices under way be over now, instead of waiting for it."""
    await run(
        stack,
        "UPDATE mdm.rollout_devices SET changed_at = now() - interval '1 day' WHERE rollout_id = $1 "
        "AND state IN ('OFFERED', 'TAKEN')",
        rollout,
    )


async def waves_of(stack: Stack, rollout: int) -> dict[int, list[str]]:
    """The client ids of each wave."""
    rows = await run(
        stack,
        """SELECT r.wave, 'iotdevice-' || m.code || '-' || d.key AS name FROM mdm.rollout_devices r
        JOIN mdm.devices d ON d.id = r.device_id JOIN mdm.device_models m ON m.id = d.model_id
        WHERE r.rollout_id = $1 ORDER BY d.id""",
        rollout,
    )
    found: dict[int, list[str]] = {}
    for row in rows:
        found.setdefault(row["wave"], []).append(row["name"])
    return found


def check(model: str, sha256: str = OLD) -> messages.FirmwareCheck:
    """A question for firmware."""
    return messages.FirmwareCheck(
        request_id=uuid4().hex,
        version="1.0.0",
        sha256=sha256,
        chip="esp32",
        project=model,
        slot_size_bytes=SLOT_BYTES,
    )


async def asked(device: RawDevice, model: str, sha256: str = OLD) -> str | None:
    """What a device is told to have when it asks; None is what it has."""
    question = check(model, sha256)
    await device.send(topics.FIRMWARE_CHECK, question)
    while True:
        offer = await device.receive(topics.FIRMWARE_OFFER)
        if offer.request_id == question.request_id:
            return offer.sha256


async def test_a_rollout_of_which_a_tenth_fails_halts_in_that_wave_and_goes_on_when_it_is_resumed(
    fleet: Fleet, stack: Stack
) -> None:
    model = await fleet.model()
    await stored(fleet, model)
    async with swarming(model, await packages(fleet, model, 100)) as swarm:
        await fit(fleet, model, 100)
        plan = {**AT_ONCE, "waves": ["10", "50", "100%"], "success_percent": 80, "failure_limit": "20%"}
        rollout = (await fleet.ask(admin.ROLLOUT_START, model=model, version="1.1.0", plan=plan)).rollout
        waves = await waves_of(stack, rollout)
        assert {wave: len(found) for wave, found in waves.items()} == {1: 10, 2: 40, 3: 50}
        fates: list[Fate] = ["fails", "fails", "rolls back", "comes back", "comes back", "goes silent", "is deaf"]
        swarm.fates = dict(zip(waves[2], [*fates, *fates[:2], "goes silent"], strict=False))
        swarm.go.set()
        said = {"confirmed": 30, "failed": 4, "rolled_back": 3}
        found = await until(fleet, rollout, lambda it: said.items() <= stands(it, 2).items())
        assert (found.state, stands(found, 1), stands(found, 3)) == ("RUNNING", {"confirmed": 10}, {"waiting": 50})
        await expire(stack, rollout)
        halted = await fleet.witness.seen(None, "rollout/halted", rollout=rollout)
        assert (halted.data["reason"], halted.data["wave"]) == ("wave 2: 10 of 40 devices failed, 8 may", 2)
        found = await fleet.ask(admin.ROLLOUT_STATUS)
        assert (found.rollout, found.state, found.reason) == (rollout, "HALTED", halted.data["reason"])
        assert stands(found, 2) == {**said, "silent": 3}
        assert found.failure_count == 10
        assert {it.client_id for it in found.failures} == set(swarm.fates)
        assert {it.state: it.reason for it in found.failures if it.state != "ROLLED_BACK"} == {
            "FAILED": "the flash is worn out",
            "SILENT": "has not confirmed the image within 1800 s",
        }
        assert {it.reason for it in found.failures if it.state == "ROLLED_BACK"} == {
            "the self-test failed",
            "came back with other firmware than it rebooted for",
        }
        assert swarm.offers == dict.fromkeys(waves[1] + waves[2], 1)

        await fleet.ask(admin.ROLLOUT_RESUME, rollout=rollout)
        await fleet.witness.seen(None, "rollout/completed", rollout=rollout)
        found = await fleet.ask(admin.ROLLOUT_STATUS, rollout=rollout)
        assert stands(found, 3) == {"confirmed": 50}
        assert all(swarm.offers[client_id] == 1 for client_id in waves[3])
    [image] = [it for it in (await fleet.ask(admin.IMAGE_LIST)).images if it.model == model]
    assert image.current
    entries = (await fleet.ask(admin.AUDIT_LIST, subject=f"rollout/{rollout}")).entries
    assert [(it.actor, it.action.removeprefix("rollout.")) for it in reversed(entries)] == [
        ("admin", "started"),
        ("rollout", "wave_opened"),
        ("rollout", "wave_met"),
        ("rollout", "wave_opened"),
        ("rollout", "halted"),
        ("admin", "resumed"),
        ("rollout", "wave_met"),
        ("rollout", "wave_opened"),
        ("rollout", "wave_met"),
        ("rollout", "completed"),
    ]
