"""Devices that sleep, on the real stack: what is said of them, and what reaches them when they wake up."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Final

import pytest

from dev.credentials import device_client
from dev.database import run
from dev.fleet import OPTIONS, Fleet
from dev.stack import Stack
from dev.system import System
from dev.waiting import until
from shared.protocol import admin, messages, topics
from shared.protocol.admin import Package
from shared.protocol.messages import FirmwareStage
from tests.integration.test_rollouts import AT_ONCE, fit, stands, stored
from tests.integration.test_rollouts import until as reached
from tests.raw import RawDevice
from tests.swarm import packages, status

WAKE_INTERVAL_S: Final = 3
SLEEPY: Final = replace(OPTIONS, wake_interval_s=WAKE_INTERVAL_S)
ASLEEP: Final = messages.Status(online=False, asleep=True)
AWAKE: Final = messages.Status(online=True, wake_interval_s=3600)
OVERDUE: Final = """
    UPDATE mdm.device_presence SET asleep_until = now() - interval '1 second'
    FROM mdm.devices WHERE devices.id = device_id AND key = $1
"""
SEEN_AGO: Final = """
    UPDATE mdm.device_presence SET left_at = NULL, last_seen_at = now() - $2 * interval '1 second'
    FROM mdm.devices WHERE devices.id = device_id AND key = $1
"""


async def listed(fleet: Fleet, package: Package, **wanted: object) -> bool:
    """Whether a device is in the list of those that match."""
    found = await fleet.ask(admin.DEVICE_LIST, model=(await fleet.show(package)).model, **wanted)
    return package.client_id in {device.client_id for device in found.devices}


async def falls_asleep(fleet: Fleet, package: Package) -> None:
    """Let a device say that it sleeps for an hour."""
    async with RawDevice(package) as device:
        await device.send(topics.STATUS, AWAKE)
        await fleet.seen(package, "device/online")
        await device.send(topics.STATUS, ASLEEP)
        await fleet.seen(package, "device/asleep")


async def test_a_device_is_asleep_until_it_is_overdue_and_offline_from_then_on(fleet: Fleet, stack: Stack) -> None:
    package = await fleet.device()
    await falls_asleep(fleet, package)
    view = await fleet.show(package)
    assert (view.online, view.presence, view.health, view.wake_interval_s) == (False, "asleep", "healthy", 3600)
    assert view.last_seen_at is not None
    assert view.asleep_until is not None
    assert (view.asleep_until - view.last_seen_at).total_seconds() == 5400
    assert await listed(fleet, package, presence="asleep")
    assert not await listed(fleet, package, presence="offline")

    await run(stack, SEEN_AGO, package.device_key, 26 * 3600)  # a day and a wake interval
    assert (await fleet.show(package)).health == "healthy"
    fleet.witness.forget(package.client_id)
    await run(stack, OVERDUE, package.device_key)
    await fleet.seen(package, "device/offline")
    view = await fleet.show(package)
    assert (view.presence, view.health, view.asleep_until) == ("offline", "critical", None)
    assert await listed(fleet, package, presence="offline")
    shown = await fleet.ask(admin.FLEET_SHOW)
    assert shown.devices > shown.online + shown.asleep


async def test_a_last_will_of_a_device_that_sleeps_means_that_it_sleeps(fleet: Fleet) -> None:
    package, other = await fleet.device(), await fleet.device()
    for each, interval_s in ((package, 60), (other, None)):
        async with fleet.powered(each, options=replace(OPTIONS, wake_interval_s=interval_s, quiet_s=60)):
            await fleet.until(each, lambda view: view.online)
    assert (await fleet.until(package, lambda view: not view.online)).presence == "asleep"
    assert (await fleet.until(other, lambda view: not view.online)).presence == "offline"


async def test_an_odd_wake_interval_is_a_flaw_and_no_silent_device(fleet: Fleet) -> None:
    package = await fleet.device()
    async with device_client(package) as device:
        topic = topics.STATUS.of(client_id=package.client_id)
        await device.publish(topic, b'{"online":true,"wake_interval_s":0}')
        view = await until(lambda: fleet.show(package), lambda view: view.online and view.flaws)
        assert [(flaw.field, flaw.topic) for flaw in view.flaws] == [("wake_interval_s", "up/status")]
        await device.publish(topic, b'{"online":true,"wake_interval_s":59.6}')
        await until(lambda: fleet.show(package), lambda view: view.wake_interval_s == 60 and not view.flaws)


async def test_a_registry_that_was_down_gives_a_device_its_whole_time_again(
    fleet: Fleet, system: System, stack: Stack
) -> None:
    package = await fleet.device()
    await falls_asleep(fleet, package)
    system.stop("registry")
    await run(stack, OVERDUE, package.device_key)
    begun = datetime.now(UTC)
    system.start("registry")
    await until(
        lambda: fleet.show(package),
        lambda view: view.asleep_until and view.asleep_until > begun + timedelta(hours=1),
    )
    assert (await fleet.show(package)).presence == "asleep"
    assert not fleet.witness.remembers(package.client_id, "device/offline")


@pytest.mark.usefixtures("patient")
async def test_a_device_that_is_not_online_holds_no_slot_and_rotates_when_it_wakes_up(fleet: Fleet) -> None:
    sleeper, gone, other = await fleet.device(), await fleet.device(), await fleet.device()
    await falls_asleep(fleet, sleeper)
    started = [await fleet.ask(admin.ROTATION_START, device=it.client_id) for it in (sleeper, gone)]
    assert [it.waiting.names for it in started] == [[sleeper.client_id], [gone.client_id]]
    async with fleet.powered(other):
        await fleet.ask(admin.ROTATION_START, device=other.client_id)
        await fleet.seen(other, "rotation/completed")
    status = await fleet.ask(admin.ROTATION_STATUS)
    assert {it.client_id for it in status.under_way}.isdisjoint({sleeper.client_id, gone.client_id})
    assert (status.asleep >= 1, status.offline >= 1) == (True, True)
    async with fleet.powered(sleeper, options=SLEEPY):
        await fleet.seen(sleeper, "rotation/completed")
    assert (await fleet.show(gone)).rotation_state == "QUEUED"
    assert (await fleet.show(sleeper)).secret_generation == 2
    await fleet.ask(admin.ROTATION_CANCEL, device=gone.client_id)


@pytest.mark.usefixtures("patient")
@pytest.mark.parametrize("step", ["OFFERED", "DELIVERED", "STORED"])
async def test_a_device_that_leaves_before_the_switch_gives_its_slot_back(
    fleet: Fleet, system: System, step: str
) -> None:
    package, other = await fleet.device(), await fleet.device()
    async with RawDevice(package) as device, fleet.powered(other):
        await device.send(topics.STATUS, AWAKE)
        await fleet.seen(package, "device/online")
        await fleet.ask(admin.ROTATION_START, device=package.client_id)
        if step == "OFFERED":
            await fleet.seen(package, "rotation/offered")
        if step == "DELIVERED":
            await device.fetch_secret()
        if step == "STORED":
            # This leader has not heard of it: it switches only when the device repeats it.
            await device.fetch_secret()
            await run(
                system.stack,
                "UPDATE mdm.rotations SET step = 'STORED' FROM mdm.devices WHERE devices.id = device_id "
                "AND key = $1 AND outcome IS NULL",
                package.device_key,
            )
        await fleet.ask(admin.ROTATION_START, device=other.client_id)
        assert (await fleet.show(other)).rotation_state == "QUEUED"
        await device.send(topics.STATUS, ASLEEP)
        await fleet.seen(package, "rotation/withdrawn", at_step=step, cancelled=False)
        await fleet.seen(other, "rotation/completed")
        view = await fleet.show(package)
        assert (view.rotation_state, view.presence) == ("QUEUED", "asleep")
        [entry] = (await fleet.ask(admin.ROTATION_HISTORY, device=package.client_id)).rotations
        assert entry.outcome == "WITHDRAWN"
    async with fleet.powered(package):
        await fleet.seen(package, "rotation/completed")
    assert (await fleet.show(package)).secret_generation == 3


@pytest.mark.usefixtures("patient")
async def test_a_device_that_loses_its_connection_keeps_its_slot_for_a_moment(fleet: Fleet) -> None:
    package = await fleet.device()
    async with fleet.powered(package, cut_at="publish.rotation.request:before") as power:
        await fleet.until(package, lambda view: view.online)
        await fleet.ask(admin.ROTATION_START, device=package.client_id)
        await power.failed()
    await fleet.seen(package, "device/offline")
    async with fleet.powered(package):
        await fleet.seen(package, "rotation/completed")
    assert (await fleet.show(package)).secret_generation == 2
    assert not fleet.witness.remembers(package.client_id, "rotation/withdrawn")


@pytest.mark.usefixtures("patient")
async def test_a_device_that_is_gone_gives_its_slot_back(fleet: Fleet) -> None:
    package = await fleet.device()
    async with fleet.powered(package, cut_at="publish.rotation.request:before") as power:
        await fleet.until(package, lambda view: view.online)
        await fleet.ask(admin.ROTATION_START, device=package.client_id)
        await power.failed()
    await fleet.seen(package, "rotation/withdrawn")
    assert (await fleet.show(package)).rotation_state == "QUEUED"
    await fleet.ask(admin.ROTATION_CANCEL, device=package.client_id)


async def test_what_waits_for_a_device_reaches_it_before_it_sleeps_again(fleet: Fleet) -> None:
    """Its command, its new secret and its configuration come while it is awake: it wakes up once."""
    model = await fleet.model(config_schema={"properties": {"level": {"type": "integer"}}})
    package = await fleet.device(model)
    options = replace(OPTIONS, wake_interval_s=3600)
    async with fleet.powered(package, options=options):
        await fleet.seen(package, "device/asleep")
    sent = await fleet.ask(admin.COMMAND_SEND, device=package.client_id, name="identify", expires_in_s=3600)
    await fleet.ask(admin.ROTATION_START, device=package.client_id)
    await fleet.ask(admin.CONFIG_SET, device=package.client_id, overrides={"level": 7})
    # The server may be slow: the device waits for the next message for longer than usual.
    async with fleet.powered(package, options=replace(options, quiet_s=10)):
        # It would not wake up a second time within the test.
        await fleet.seen(package, "rotation/completed")
        await fleet.until(package, lambda view: view.presence == "asleep")
    batch = await fleet.ask(admin.COMMAND_SHOW, batch_id=sent.batch_id)
    view = await fleet.show(package)
    assert (batch.counts.ok, view.rotation_state, view.secret_generation) == (1, "OK", 2)
    assert (view.config_version_reported, view.config_outcome) == (view.config_version, "applied")


async def test_a_device_that_sleeps_comes_and_goes_by_itself(fleet: Fleet) -> None:
    package = await fleet.device()
    async with fleet.powered(package, options=SLEEPY):
        for _ in range(2):
            await fleet.seen(package, "device/online")
            await fleet.seen(package, "device/asleep")


async def test_a_device_that_sleeps_in_a_rollout_is_not_silent_before_its_next_wake_up(
    fleet: Fleet, stack: Stack
) -> None:
    """Next to one that does not sleep, which is silent: so the rollout has looked at both."""
    model = await fleet.model()
    sha256 = await stored(fleet, model)
    sleeper, witness, second = await packages(fleet, model, 3)
    plan = {**AT_ONCE, "waves": ["100%"], "success_percent": 1, "failure_limit": "99%", "silence_s": 60}
    taken = messages.FirmwareReport(sha256=sha256, stage=FirmwareStage.DOWNLOADING)
    late = (
        "UPDATE mdm.rollout_devices SET changed_at = now() - interval '10 minutes' "
        "WHERE rollout_id = $1 AND state = 'TAKEN'"
    )
    async with RawDevice(sleeper) as device, RawDevice(witness) as other:
        await device.send(topics.STATUS, status(model, wake_interval_s=3600))
        await other.send(topics.STATUS, status(model))
        await fit(fleet, model, 2)
        rollout = (
            await fleet.ask(admin.ROLLOUT_START, model=model, version="1.1.0", plan=plan, skip=True)
        ).rollout
        for each in (device, other):
            await each.receive(topics.FIRMWARE_OFFER)
            await each.send(topics.FIRMWARE_REPORT, taken)
        found = await reached(fleet, rollout, lambda it: stands(it).get("taken") == 2)
        await device.send(topics.STATUS, ASLEEP)
        await fleet.seen(sleeper, "device/asleep")
        preflight = await fleet.ask(admin.ROLLOUT_PREFLIGHT, model=model, version="1.1.0")
        assert sleeper.client_id not in {problem.client_id for problem in preflight.problems}
        await run(stack, late, rollout)
        found = await reached(fleet, rollout, lambda it: stands(it).get("silent") == 1)
        assert (stands(found)["taken"], found.failures[0].client_id) == (1, witness.client_id)

        await device.send(topics.STATUS, status(model, wake_interval_s=3600))
        await fleet.seen(sleeper, "device/online")
        await device.send(topics.FIRMWARE_REPORT, taken.model_copy(update={"stage": FirmwareStage.CONFIRMED}))
        await reached(fleet, rollout, lambda it: stands(it).get("confirmed") == 1)
    await fleet.ask(admin.DEVICE_REMOVE, device=second.client_id)
