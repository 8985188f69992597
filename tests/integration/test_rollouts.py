"""Rollouts on the real stack: waves open in their turn, failures halt, and nobody is offered an image twice."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Callable
from datetime import UTC, datetime, timedelta
from functools import partial
from pathlib import Path
from typing import Final

import pytest
from pydantic import SecretStr

from cli.client import AnswerError
from dev import waiting
from dev.database import run
from dev.fleet import Fleet
from dev.stack import Stack
from dev.system import System
from dev.uploads import upload
from dev.waiting import PATIENCE_S
from device import image_builder
from services.firmware.assignment import rollout_queries
from shared.database import engine, grants
from shared.protocol import admin, messages, topics
from shared.protocol.admin import RolloutStatus
from shared.protocol.messages import FirmwareStage
from tests.downloads import check
from tests.integration.test_metrics import by
from tests.integration.test_metrics import until as counted
from tests.integration.test_tool import mdm
from tests.raw import RawDevice
from tests.swarm import OLD, CrashPlan, packages, status, swarming

AT_ONCE: Final = {"soak_s": 0, "offers_per_minute": 10_000, "max_under_way": 10_000}


@pytest.fixture(scope="module", autouse=True)
async def quick(system: System) -> AsyncIterator[None]:
    """Run two firmware services that look at rollouts all the time."""
    often = {"MDM_ROLLOUT_SWEEP_S": "0.1"}
    async with system.altered("firmware", fate=None, **often):
        await asyncio.to_thread(partial(system.start, "firmware", name="firmware-2", fate=None, **often))
        yield
        await asyncio.to_thread(system.stop, "firmware-2")


async def stored(fleet: Fleet, model: str, version: str = "1.1.0", *, release: bool = False) -> str:
    """Upload an image of a model and return its SHA-256."""
    image = image_builder.build(version=version, project=model)
    return (await upload(fleet, model, image, release=release)).sha256


async def fit(fleet: Fleet, model: str, count: int, version: str = "1.1.0") -> None:
    """Wait until so many devices would take an image."""
    await waiting.until(
        lambda: fleet.ask(admin.ROLLOUT_PREFLIGHT, model=model, version=version), lambda found: found.fit == count
    )


async def until(fleet: Fleet, rollout: int, holds: Callable[[RolloutStatus], object]) -> RolloutStatus:
    """Look at a rollout until it stands so."""
    return await waiting.until(
        lambda: fleet.ask(admin.ROLLOUT_STATUS, rollout=rollout), holds, within_s=PATIENCE_S
    )


def stands(found: RolloutStatus, wave: int = 1) -> dict[str, int]:
    """How the devices of a wave stand, those of whom there are some."""
    for one in found.counts:
        if one.wave == wave:
            return {name: count for name, count in one.counts.model_dump().items() if count}
    return {}


async def expire(stack: Stack, rollout: int) -> None:
    """Let the patience with all devices in progress be over now, instead of waiting for it."""
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


async def needed_by(fleet: Fleet, model: str, version: str) -> int | None:
    """The rollout for which an image must not be deleted."""
    return (await fleet.ask(admin.IMAGE_SHOW, model=model, version=version)).rollout


async def asked(device: RawDevice, model: str, sha256: str = OLD) -> str | None:
    """What a device is told to have when it asks; None is what it has."""
    question = check(model, sha256=sha256)
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
        fates: list[CrashPlan] = [
            "fails",
            "fails",
            "rolls back",
            "comes back",
            "comes back",
            "goes silent",
            "is deaf",
        ]
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


async def test_a_preflight_names_each_device_that_would_fail_and_why(fleet: Fleet, stack: Stack) -> None:
    model = await fleet.model()
    sha256 = await stored(fleet, model)
    good, runs_it, chip, slot, project, disabled, refused, unknown, away, never = await packages(fleet, model, 10)
    said = {
        good: status(model),
        runs_it: status(model, sha256),
        chip: status(model, chip="esp32c3"),
        slot: status(model, slot_size_bytes=1024),
        project: status("other"),
        disabled: status(model),
        refused: status(model),
        unknown: status(model).model_copy(update={"slot_size_bytes": None}),
        away: status(model),
    }
    for package, one in said.items():
        async with RawDevice(package) as device:
            await device.send(topics.STATUS, one)
            if package is refused:
                report = messages.FirmwareReport(sha256=sha256, stage=FirmwareStage.ROLLED_BACK)
                await device.send(topics.FIRMWARE_REPORT, report)
                await fleet.seen(package, "firmware/reported", stage="rolled_back")
            await fleet.until(package, lambda view: view.last_seen_at)
    await fleet.ask(admin.DEVICE_UPDATE, device=disabled.client_id, enabled=False)
    await run(
        stack,
        """UPDATE mdm.device_presence SET online = false, left_at = NULL, last_seen_at = now() - interval '2 days'
        WHERE device_id = (SELECT id FROM mdm.devices WHERE key = $1)""",
        away.device_key,
    )
    found = await fleet.ask(admin.ROLLOUT_PREFLIGHT, model=model, version="1.1.0")
    assert (found.fit, found.already.names, found.count, found.never_seen) == (1, [runs_it.client_id], 7, 1)
    reasons = {it.client_id: it.reason for it in found.problems}
    for package, reason in {
        chip: "chip: the image is for esp32, the device has esp32c3",
        slot: "size_bytes: the image has",
        project: f"project: the image is {model}, the device runs other",
        disabled: "is disabled",
        refused: "the device has had this image before: rolled_back",
        unknown: "slot_size_bytes: the device has not reported",
        away: "is offline since",
    }.items():
        assert reasons[package.client_id].startswith(reason)

    assert never.client_id not in reasons
    with pytest.raises(AnswerError, match=r"7 devices would fail, 1 fit: .*; and 2 more"):
        await fleet.ask(admin.ROLLOUT_START, model=model, version="1.1.0")
    begun = await fleet.ask(admin.ROLLOUT_START, model=model, version="1.1.0", skip=True)
    assert stands(begun, 0) == {"confirmed": 1, "skipped": 7}
    assert {it.client_id: it.reason for it in begun.failures} == reasons
    await fleet.ask(admin.ROLLOUT_ABORT, rollout=begun.rollout)
    # What is tried all the same counts as a failure, if the device is there to refuse it.
    async with RawDevice(chip) as device:
        await device.send(topics.STATUS, said[chip])
        plan = {**AT_ONCE, "waves": ["100%"], "failure_limit": "0"}
        forced = await fleet.ask(admin.ROLLOUT_START, model=model, version="1.1.0", force=True, plan=plan)
        halted = await fleet.witness.seen(None, "rollout/halted", rollout=forced.rollout)
        assert "devices failed, 0 may" in halted.data["reason"]
    await fleet.ask(admin.ROLLOUT_ABORT, rollout=forced.rollout)


async def test_a_device_that_has_a_rollouts_image_is_not_called_back_by_its_models_older_one(
    fleet: Fleet,
) -> None:
    model = await fleet.model()
    old, new = await stored(fleet, model, "1.0.0", release=True), await stored(fleet, model)
    [first, second] = await packages(fleet, model, 2)
    async with swarming(model, [first, second]) as swarm:
        await fit(fleet, model, 2)
        plan = {**AT_ONCE, "waves": ["1", "100%"], "soak_s": 3600}
        begun = await fleet.ask(admin.ROLLOUT_START, model=model, version="1.1.0", plan=plan)
        swarm.go.set()
        await until(fleet, begun.rollout, lambda it: stands(it) == {"confirmed": 1})
        [confirmed] = swarm.offers
    has, waits = (first, second) if first.client_id == confirmed else (second, first)

    with pytest.raises(AnswerError, match=rf"rollout {begun.rollout} of {model} is open: abort it first"):
        await stored(fleet, model, "1.2.0", release=True)
    async with RawDevice(has) as updated, RawDevice(waits) as other:
        for end in (None, "pause", "abort"):
            if end == "pause":
                await fleet.ask(admin.ROLLOUT_PAUSE, rollout=begun.rollout)
            if end == "abort":
                await fleet.ask(admin.ROLLOUT_ABORT, rollout=begun.rollout)
            assert await asked(updated, model, new) is None
            assert await asked(other, model) == old
        assert await needed_by(fleet, model, "1.1.0") == begun.rollout
        newest = await stored(fleet, model, "1.2.0", release=True)
        assert await needed_by(fleet, model, "1.1.0") is None
        assert await asked(updated, model, new) == newest
        assert await asked(other, model, old) == newest
    with pytest.raises(AnswerError, match="the rollout is ABORTED and cannot be resumed"):
        await fleet.ask(admin.ROLLOUT_RESUME, rollout=begun.rollout)


async def piece(device: RawDevice, sha256: str) -> str:
    """What the answer to a request for a piece is."""
    request = messages.FirmwareChunkRequest(sha256=sha256, offset=0, length=1024)
    await device.send(topics.FIRMWARE_CHUNK, request)
    receiving = [
        asyncio.ensure_future(device.wait(topics.FIRMWARE_CANCELLED)),
        asyncio.ensure_future(device.wait(topics.FIRMWARE_CHUNK_DATA)),
    ]
    done, late = await asyncio.wait(receiving, timeout=PATIENCE_S, return_when=asyncio.FIRST_COMPLETED)
    assert done
    for one in late:
        one.cancel()
    return "cancelled" if receiving[0] in done else "piece"


async def test_an_aborted_rollout_lets_devices_that_have_begun_finish_unless_it_is_hard(fleet: Fleet) -> None:
    model = await fleet.model()
    sha256 = await stored(fleet, model)
    [package] = await packages(fleet, model, 1)
    async with RawDevice(package) as device:
        await device.send(topics.STATUS, status(model))
        await fit(fleet, model, 1)
        for hard in (False, True):
            begun = await fleet.ask(admin.ROLLOUT_START, model=model, version="1.1.0")
            await until(fleet, begun.rollout, lambda it: stands(it) == {"offered": 1})
            downloading = messages.FirmwareReport(sha256=sha256, stage=FirmwareStage.DOWNLOADING)
            await device.send(topics.FIRMWARE_REPORT, downloading)
            await until(fleet, begun.rollout, lambda it: stands(it) == {"taken": 1})
            assert await asked(device, model) == sha256
            assert await piece(device, sha256) == "piece"
            await fleet.ask(admin.ROLLOUT_ABORT, rollout=begun.rollout, hard=hard)
            if hard:
                assert (await device.receive(topics.FIRMWARE_CANCELLED)).sha256 == sha256
            assert await asked(device, model) == (None if hard else sha256)
            if hard:  # soon: the service remembers for some seconds that the device may have it
                await waiting.until(lambda: piece(device, sha256), lambda answer: answer == "cancelled")
            else:
                assert await piece(device, sha256) == "piece"
        # It had all pieces by then: that it runs the image is the truth all the same.
        confirmed = messages.FirmwareReport(sha256=sha256, stage=FirmwareStage.CONFIRMED)
        await device.send(topics.FIRMWARE_REPORT, confirmed)
        await until(fleet, begun.rollout, lambda it: stands(it) == {"confirmed": 1})


async def test_offers_are_limited_withdrawn_by_a_pause_and_made_in_the_window_only(
    fleet: Fleet, stack: Stack, system: System
) -> None:
    model = await fleet.model()
    await stored(fleet, model)
    wanted = await packages(fleet, model, 5, tags=["lab"])
    async with swarming(model, wanted) as swarm:
        await fit(fleet, model, 5)
        plan = {**AT_ONCE, "waves": ["100%"], "max_under_way": 3, "offers_per_minute": 2}
        fields = {"model": model, "version": "1.1.0", "tags": ["lab"], "plan": plan}
        rollout = (await fleet.ask(admin.ROLLOUT_START, **fields)).rollout
        with pytest.raises(AnswerError, match=f"5 of the devices are in rollout {rollout}, which is open"):
            await fleet.ask(admin.ROLLOUT_START, **fields)
        await until(fleet, rollout, lambda it: stands(it) == {"offered": 2, "waiting": 3})
        a_minute_later = (
            "UPDATE mdm.rollout_devices SET offered_at = now() - interval '1 hour' WHERE rollout_id = $1"
        )
        await run(stack, a_minute_later, rollout)
        await until(fleet, rollout, lambda it: stands(it) == {"offered": 3, "waiting": 2})
        found = await fleet.ask(admin.ROLLOUT_PAUSE, rollout=rollout)
        assert found.state == "PAUSED"
        await until(fleet, rollout, lambda it: stands(it) == {"waiting": 5})
        await run(stack, a_minute_later, rollout)
        await run(
            stack,
            """UPDATE mdm.rollouts SET plan = plan || jsonb_build_object('window',
            to_char(now() AT TIME ZONE 'UTC' + interval '2 hours', 'HH24:MI') || '-' ||
            to_char(now() AT TIME ZONE 'UTC' + interval '3 hours', 'HH24:MI')) WHERE id = $1""",
            rollout,
        )
        found = await fleet.ask(admin.ROLLOUT_RESUME, rollout=rollout)
        assert found.doing.startswith("outside ")
        [disabled, removed, *others] = wanted
        await fleet.ask(admin.DEVICE_UPDATE, device=disabled.client_id, enabled=False)
        await fleet.ask(admin.DEVICE_REMOVE, device=removed.client_id)
        # The conductor has looked since: it has dropped the device, and made no offer outside the window.
        found = await until(fleet, rollout, lambda it: stands(it).get("skipped"))
        assert stands(found) == {"waiting": 3, "skipped": 1}
        assert swarm.offers.total() == 3
        await counted(
            lambda: by(system, "firmware", "iot_rollout_device_count", "state"), lambda it: it["WAITING"] >= 3
        )
        widened = '{"window": null, "max_under_way": 9, "offers_per_minute": 9}'
        await run(stack, "UPDATE mdm.rollouts SET plan = plan || $2::jsonb WHERE id = $1", rollout, widened)
        swarm.go.set()
        await fleet.witness.seen(None, "rollout/completed", rollout=rollout)
        found = await fleet.ask(admin.ROLLOUT_STATUS, rollout=rollout)
    assert stands(found) == {"confirmed": len(others), "skipped": 1}
    # It was for a tag: the model keeps its image.
    assert not [it for it in (await fleet.ask(admin.IMAGE_LIST)).images if it.model == model and it.current]


async def test_a_device_that_comes_late_gets_the_image_by_the_reference_agent_and_the_tool(
    fleet: Fleet, system: System, tmp_path: Path
) -> None:
    model = await fleet.model()
    package = await fleet.device(model)
    await stored(fleet, model)
    async with fleet.powered(package):
        await fleet.until(package, lambda view: view.firmware_version == "1.0.0")
    await fleet.until(package, lambda view: not view.online)
    profile = tmp_path / "profile.toml"
    system.profile.save(profile)
    tool = partial(mdm, MDM_PROFILE=str(profile))
    begun = json.loads((await tool("rollout", "start", model, "1.1.0", "--soak", "0s", "--json")).output)
    rollout = begun["rollout"]
    watching = asyncio.create_task(tool("rollout", "status", rollout, "--watch", "--json"))
    await fleet.witness.seen(None, "rollout/wave_opened", rollout=rollout)
    async with fleet.powered(package):
        await fleet.until(package, lambda view: view.firmware_version == "1.1.0")
        watched = await watching
    found = json.loads(watched.output)
    assert (watched.status, found["state"], found["counts"][0]["counts"]["confirmed"]) == (0, "COMPLETED", 1)
    assert "rollout.completed" in (await tool("rollout", "history", rollout)).output


@pytest.mark.parametrize(
    ("fields", "reason"),
    [({"version": "9.9.9"}, "has no image 9.9.9"), ({"tags": ["none"]}, "no device matches")],
)
async def test_a_rollout_of_what_does_not_exist_is_refused(
    fleet: Fleet, fields: dict[str, object], reason: str
) -> None:
    model = await fleet.model()
    await stored(fleet, model)
    with pytest.raises(AnswerError, match=reason):
        await fleet.ask(admin.ROLLOUT_START, **{"model": model, "version": "1.1.0", **fields})
    with pytest.raises(AnswerError, match="there is no rollout 999999"):
        await fleet.ask(admin.ROLLOUT_PAUSE, rollout=999999)


ENDED_AGO: Final = """
    WITH made AS (
        INSERT INTO mdm.rollouts
            (model_id, version, sha256, tags, percent, plan, waves, state, in_force, author, ended_at)
        SELECT m.id, '1.1.0', i.sha256, '{}', 100, '{}', 1, 'COMPLETED', $2, 'test', now() - $3::interval
        FROM mdm.device_models m JOIN mdm.firmware_images i ON i.model_id = m.id WHERE m.code = $1
        RETURNING id
    )
    INSERT INTO mdm.rollout_devices (rollout_id, device_id, wave, state, live)
    SELECT made.id, d.id, 1, 'CONFIRMED', false
    FROM made, mdm.devices d JOIN mdm.device_models m ON m.id = d.model_id WHERE m.code = $1
    RETURNING rollout_id
"""


async def test_rollouts_that_ended_long_ago_are_forgotten_unless_they_are_in_force(
    fleet: Fleet, stack: Stack, system: System
) -> None:
    model = await fleet.model()
    await stored(fleet, model)
    for _ in range(2):
        await fleet.device(model)
    cases = [(False, timedelta(days=370)), (True, timedelta(days=370)), (False, timedelta(days=360))]
    made = [(await run(stack, ENDED_AGO, model, *case))[0]["rollout_id"] for case in cases]
    await asyncio.to_thread(partial(system.start, "firmware", name="firmware-3", fate=None))

    async def left() -> list[int]:
        rows = await run(stack, "SELECT id FROM mdm.rollouts WHERE id = ANY($1) ORDER BY id", made)
        return [row["id"] for row in rows]

    await waiting.until(left, lambda ids: ids == made[1:])
    await asyncio.to_thread(system.stop, "firmware-3")
    rows = await run(stack, "SELECT rollout_id FROM mdm.rollout_devices WHERE rollout_id = ANY($1)", made)
    assert sorted(row["rollout_id"] for row in rows) == sorted(made[1:] * 2)


async def test_the_devices_of_a_forgotten_rollout_go_in_batches(
    fleet: Fleet, stack: Stack, monkeypatch: pytest.MonkeyPatch
) -> None:
    model = await fleet.model()
    await stored(fleet, model)
    for _ in range(3):
        await fleet.device(model)
    case = (False, timedelta(days=370))
    [rollout] = {row["rollout_id"] for row in await run(stack, ENDED_AGO, model, *case)}
    before = datetime.now(UTC) - timedelta(days=365)
    monkeypatch.setattr(rollout_queries, "_BATCH", 2)
    found = []
    async with engine.connected(SecretStr(stack.endpoints.database_users[grants.USERS["firmware"]])) as database:
        is_more = True
        while is_more:
            async with database.transaction() as session:
                is_more = await rollout_queries.forget_ended(session, before=before)
            [row] = await run(
                stack,
                "SELECT (SELECT count(*) FROM mdm.rollouts WHERE id = $1), "
                "(SELECT count(*) FROM mdm.rollout_devices WHERE rollout_id = $1)",
                rollout,
            )
            found.append(tuple(row))
    assert found == [(1, 1), (0, 0)]
