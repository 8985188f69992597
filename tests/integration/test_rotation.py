"""Rotations on the real stack: the new secret counts when it is proven, and one secret counts at any time."""

from __future__ import annotations

from datetime import timedelta

import pytest
from pydantic import SecretStr

from cli.client import AnswerError
from dev import credentials
from dev.database import run
from dev.fleet import Fleet
from dev.stack import Stack
from dev.system import System
from dev.waiting import until
from device.options import Options, Protocol
from shared import crypto
from shared.protocol import admin, events, messages, topics
from shared.protocol.admin import Package
from tests.faults.promise import expire
from tests.raw import RawDevice

ENDED_AGO = """
    INSERT INTO mdm.rotations
        (id, device_id, generation, old_generation, step, outcome, started_at, deadline_at, ended_at)
    SELECT gen_random_uuid(), id, $2, 1, 'SWITCHED', 'DONE', now(), now(), now() - $3::interval
    FROM mdm.devices WHERE key = $1
"""


async def settled(fleet: Fleet, package: Package, state: str) -> admin.DeviceView:
    return await fleet.until(package, lambda view: view.rotation_state == state)


@pytest.mark.parametrize("keyless", [True, False], ids=["plain", "sealed"])
@pytest.mark.parametrize("protocol", ["3.1.1", "5"])
async def test_a_device_gets_a_new_secret_and_the_old_one_dies(
    fleet: Fleet, protocol: Protocol, keyless: bool
) -> None:
    package = await fleet.device()
    options = Options(protocol=protocol, keyless=keyless, retry_s=0.5, backoff_min_s=0.1, backoff_max_s=0.5)
    async with fleet.powered(package, options=options):
        await fleet.until(package, lambda view: view.online)
        await fleet.ask(admin.ROTATION_START, device=package.client_id)
        await fleet.seen(package, "rotation/completed")
        view = await fleet.show(package)
        renewed = await fleet.ask(admin.DEVICE_PROVISION, device=package.client_id)

    assert (view.rotation_state, view.secret_generation) == ("OK", 2)
    assert renewed.secret != package.secret
    assert not await credentials.keycloak_accepts(package)
    assert not await credentials.broker_accepts(package)
    assert await credentials.keycloak_accepts(renewed)
    assert await credentials.broker_accepts(renewed)


@pytest.mark.usefixtures("no_rotations")
async def test_who_comes_online_concerns_the_leader_only_while_a_device_waits(
    fleet: Fleet, system: System
) -> None:
    template = events.DEVICE_ONLINE.topic.template
    absent = await fleet.device()

    async def comes() -> bool:
        """Let a device come online, and return whether the leader has handled it."""
        package = await fleet.device()
        before = system.counted("rotator", template)["handled"]
        async with RawDevice(package, online=True):
            await fleet.seen(package, "device/online")
            await fleet.ask(admin.ROTATION_STATUS)  # answered by the leader after what came before
        return system.counted("rotator", template)["handled"] > before

    await until(comes, lambda handled: not handled)
    await fleet.ask(admin.ROTATION_START, device=absent.client_id)
    await until(comes)


async def test_rotations_that_ended_long_ago_are_forgotten(fleet: Fleet, stack: Stack, system: System) -> None:
    package = await fleet.device()
    for generation, ago in ((2, timedelta(days=370)), (3, timedelta(days=360))):
        await run(stack, ENDED_AGO, package.device_key, generation, ago)
    await system.restart("rotator")

    async def history() -> list[int]:
        found = await fleet.ask(admin.ROTATION_HISTORY, device=package.client_id)
        return [it.generation for it in found.rotations]

    await until(history, lambda generations: generations == [3])


async def test_an_offer_that_nobody_takes_times_out_and_changes_nothing(fleet: Fleet) -> None:
    package = await fleet.device()
    await fleet.offered(package)
    view = await settled(fleet, package, "TIMEOUT")

    assert view.secret_generation == 1
    assert await credentials.keycloak_accepts(package)
    assert await credentials.broker_accepts(package)


@pytest.mark.parametrize(
    "point",
    [
        "publish.rotation.request:before",
        "slots.fill_second:before",
        "slots.fill_second:after",
        "publish.rotation.stored:after",
    ],
)
async def test_a_device_whose_power_is_cut_can_log_in_after_the_deadline(fleet: Fleet, point: str) -> None:
    package = await fleet.device()
    async with fleet.powered(package, cut_at=point) as power:
        await fleet.until(package, lambda view: view.online)
        await fleet.ask(admin.ROTATION_START, device=package.client_id)
        await power.failed()
        await fleet.seen(package, "rotation/timed_out")
    assert await credentials.keycloak_accepts(package)
    async with fleet.powered(package):
        await fleet.until(package, lambda view: view.online)
        # And a second attempt succeeds, whatever the first one left in its slots.
        await fleet.ask(admin.ROTATION_START, device=package.client_id)
        view = await settled(fleet, package, "OK")
    assert view.secret_generation == 3


async def test_a_device_that_logged_in_with_its_new_secret_keeps_it_though_its_ack_never_came(
    fleet: Fleet,
) -> None:
    package = await fleet.device()
    async with fleet.powered(package, cut_at="publish.rotation.ack:before") as power:
        await fleet.until(package, lambda view: view.online)
        await fleet.ask(admin.ROTATION_START, device=package.client_id)
        await power.failed()
        await fleet.seen(package, "rotation/completed")
    renewed = await fleet.ask(admin.DEVICE_PROVISION, device=package.client_id)
    assert await credentials.keycloak_accepts(renewed)
    async with fleet.powered(package):
        view = await fleet.until(package, lambda view: view.online)
    assert (view.rotation_state, view.secret_generation) == ("OK", 2)


async def test_an_offer_that_was_lost_with_the_power_is_repeated_when_the_device_is_back(fleet: Fleet) -> None:
    package = await fleet.device()
    async with fleet.powered(package, cut_at="publish.rotation.request:before") as power:
        await fleet.until(package, lambda view: view.online)
        await fleet.ask(admin.ROTATION_START, device=package.client_id)
        await power.failed()
    async with fleet.powered(package):
        await fleet.seen(package, "rotation/completed")
    assert (await fleet.show(package)).secret_generation == 2


async def test_a_device_disabled_in_the_middle_does_not_stop_the_others(fleet: Fleet) -> None:
    disabled, other = await fleet.device(), await fleet.device()
    async with RawDevice(disabled, online=True) as device:
        await fleet.ask(admin.ROTATION_START, device=disabled.client_id)
        await device.receive(topics.ROTATION_OFFER)
        await fleet.ask(admin.DEVICE_UPDATE, device=disabled.client_id, enabled=False)
    async with fleet.powered(other):
        await fleet.ask(admin.ROTATION_START, device=other.client_id)
        await fleet.seen(disabled, "rotation/timed_out")
        await fleet.seen(other, "rotation/completed")


async def test_a_device_that_is_back_before_the_deadline_completes_its_rotation(fleet: Fleet) -> None:
    package = await fleet.device()
    async with fleet.powered(package, cut_at="publish.rotation.ack:before") as power:
        await fleet.until(package, lambda view: view.online)
        await fleet.ask(admin.ROTATION_START, device=package.client_id)
        await power.failed()
    async with fleet.powered(package):
        view = await settled(fleet, package, "OK")
    assert view.secret_generation == 2


async def test_a_wrong_proof_is_refused_counted_and_changes_nothing(fleet: Fleet) -> None:
    package = await fleet.device()
    async with RawDevice(package, online=True) as device:
        await fleet.ask(admin.ROTATION_START, device=package.client_id)
        offer = await device.receive(topics.ROTATION_OFFER)
        await device.send(topics.ROTATION_REQUEST, messages.RotationRequest(rotation_id=offer.rotation_id))
        await device.receive(topics.ROTATION_SECRET)
        wrong = crypto.proof(SecretStr(package.secret), "stored", offer.rotation_id)
        await device.send(
            topics.ROTATION_STORED, messages.RotationStored(rotation_id=offer.rotation_id, proof=wrong)
        )
        await fleet.seen(package, "rotation/proof_refused", purpose="stored")
        assert await credentials.keycloak_accepts(package)
        cancelled = await device.receive(topics.ROTATION_CANCELLED)
    assert cancelled.rotation_id == offer.rotation_id
    assert (await fleet.show(package)).rotation_state == "TIMEOUT"


async def test_the_same_secret_is_answered_however_often_it_is_asked_for(fleet: Fleet) -> None:
    package = await fleet.device()
    async with RawDevice(package, online=True) as device:
        await fleet.ask(admin.ROTATION_START, device=package.client_id)
        offer = await device.receive(topics.ROTATION_OFFER)
        request = messages.RotationRequest(rotation_id=offer.rotation_id)
        answers = []
        for _ in range(3):
            await device.send(topics.ROTATION_REQUEST, request)
            answers.append((await device.receive(topics.ROTATION_SECRET)).secret)
    assert len(set(answers)) == 1


async def test_another_devices_rotation_cannot_be_touched(fleet: Fleet, system: System) -> None:
    victim, thief = await fleet.device(), await fleet.device()
    async with RawDevice(victim, online=True) as device, RawDevice(thief, online=True) as other:
        await fleet.ask(admin.ROTATION_START, device=victim.client_id)
        offer = await device.receive(topics.ROTATION_OFFER)
        request = messages.RotationRequest(rotation_id=offer.rotation_id)
        template = topics.ROTATION_REQUEST.template
        before = system.counted("rotator", template)
        await other.send(topics.ROTATION_REQUEST, request)
        await device.send(topics.ROTATION_REQUEST, request)
        await device.receive(topics.ROTATION_SECRET)
        # The thief's request was handled before the victim's in time; both are counted by now or soon.
        await system.takes("rotator", template, "failed", beyond=before["failed"])
        assert not other.received(topics.ROTATION_SECRET)


async def test_a_late_ack_after_a_timeout_is_refused_and_said_so(fleet: Fleet) -> None:
    package = await fleet.device()
    async with RawDevice(package, online=True) as device:
        await fleet.ask(admin.ROTATION_START, device=package.client_id)
        offer = await device.receive(topics.ROTATION_OFFER)
        await device.send(topics.ROTATION_REQUEST, messages.RotationRequest(rotation_id=offer.rotation_id))
        secret = SecretStr((await device.receive(topics.ROTATION_SECRET)).secret or "")
        await device.receive(topics.ROTATION_CANCELLED)
        ack = messages.RotationAck(
            rotation_id=offer.rotation_id, proof=crypto.proof(secret, "ack", offer.rotation_id)
        )
        await device.send(topics.ROTATION_ACK, ack)
        again = await device.receive(topics.ROTATION_CANCELLED)
    assert again.rotation_id == offer.rotation_id
    assert not await credentials.keycloak_accepts(package, secret.get_secret_value())
    assert await credentials.keycloak_accepts(package)


async def test_what_is_from_before_the_switch_completes_nothing(fleet: Fleet, system: System) -> None:
    package = await fleet.device()
    token = await credentials.keycloak_token(package)
    async with RawDevice(package, online=True) as device:
        await fleet.ask(admin.ROTATION_START, device=package.client_id)
        offer = await device.receive(topics.ROTATION_OFFER)
        await device.send(topics.ROTATION_REQUEST, messages.RotationRequest(rotation_id=offer.rotation_id))
        new = SecretStr((await device.receive(topics.ROTATION_SECRET)).secret or "")
        before = system.counted("rotator", topics.ROTATION_ACK.template)
        early = messages.RotationAck(
            rotation_id=offer.rotation_id, proof=crypto.proof(new, "ack", offer.rotation_id), token=token
        )
        await device.send(topics.ROTATION_ACK, early)
        await system.takes("rotator", topics.ROTATION_ACK.template, "failed", beyond=before["failed"])
        stored = messages.RotationStored(
            rotation_id=offer.rotation_id, proof=crypto.proof(new, "stored", offer.rotation_id)
        )
        await device.send(topics.ROTATION_STORED, stored)
        await fleet.seen(package, "rotation/switched")
    async with RawDevice(package.model_copy(update={"secret": new.get_secret_value()})) as device:
        replayed = messages.RotationAck(rotation_id=offer.rotation_id, proof=stored.proof, token=token)
        await device.send(topics.ROTATION_ACK, replayed)
        await fleet.seen(package, "rotation/proof_refused", purpose="ack")
        await fleet.seen(package, "rotation/timed_out", at_step="RESTORING")
    assert await credentials.keycloak_accepts(package)
    assert await credentials.broker_accepts(package)


@pytest.mark.usefixtures("patient")
async def test_a_standby_takes_over_and_ends_what_a_killed_leader_began(
    fleet: Fleet, stack: Stack, system: System
) -> None:
    system.start("rotator", name="standby")
    package = await fleet.device()
    try:
        async with RawDevice(package, online=True) as device:
            await fleet.ask(admin.ROTATION_START, device=package.client_id)
            offer = await device.receive(topics.ROTATION_OFFER)
            system.services["rotator"].kill()
            request = messages.RotationRequest(rotation_id=offer.rotation_id)
            secret = await device.ask(topics.ROTATION_REQUEST, request, topics.ROTATION_SECRET)
            proof = crypto.proof(SecretStr(secret.secret or ""), "stored", offer.rotation_id)
            stored = messages.RotationStored(rotation_id=offer.rotation_id, proof=proof)
            await device.send(topics.ROTATION_STORED, stored)
            await fleet.seen(package, "rotation/switched")
    finally:
        system.start("rotator")
        system.stop("standby")
    await expire(stack, package)
    view = await settled(fleet, package, "TIMEOUT")
    assert view.secret_generation == 1
    assert await credentials.keycloak_accepts(package)
    assert await credentials.broker_accepts(package)


async def test_a_rotation_of_a_device_that_does_not_exist_is_refused(fleet: Fleet) -> None:
    with pytest.raises(AnswerError, match="there is no device") as refused:
        await fleet.ask(admin.ROTATION_START, device="zzzzzzzz")
    assert refused.value.answer_code == "not_found"


async def test_one_device_rotates_at_a_time(fleet: Fleet) -> None:
    model = await fleet.model()
    packages = [await fleet.device(model) for _ in range(3)]
    for package in packages:
        await fleet.present(package)
        await fleet.ask(admin.ROTATION_START, device=package.client_id)
    # In one answer: between two, one device may have ended and another begun.
    states = [view.rotation_state for view in (await fleet.ask(admin.DEVICE_LIST, model=model)).devices]
    assert len(states) == len(packages)
    assert states.count("PENDING") <= 1
    for package in packages:
        await settled(fleet, package, "TIMEOUT")
