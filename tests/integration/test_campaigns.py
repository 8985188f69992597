"""Rotations as an admin sees them, on the real stack: started, called off, looked at, and looked up."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from typing import Any, Final
from uuid import uuid4

import pytest
from cryptography.fernet import Fernet

from cli.client import AnswerError
from dev import credentials
from dev.database import run
from dev.fleet import Fleet
from dev.stack import Stack
from dev.system import System
from dev.waiting import until
from shared.protocol import admin, messages, topics
from shared.protocol.admin import Package
from tests.conftest import call_off_all
from tests.faults.promise import expire
from tests.raw import RawDevice

MANY: Final = 10_000
SLOTS: Final = 2


async def restart(system: System, keys: str | None = None) -> None:
    """Restart the rotator with two slots and a deadline that no test reaches."""
    await system.restart(
        "rotator",
        MDM_ROTATION_DEADLINE_S="300",
        MDM_ROTATION_MAX_PARALLEL=str(SLOTS),
        MDM_MASTER_KEYS=keys or system.own["rotator"]["MDM_MASTER_KEYS"],
    )


@pytest.fixture(scope="module")
async def patient(system: System) -> AsyncIterator[None]:
    """Run a rotator with a long deadline: what ends here was called off, or expired by the test."""
    await restart(system)
    yield
    await system.restart("rotator")


@pytest.fixture(autouse=True)
async def idle(patient: None, fleet: Fleet) -> AsyncIterator[None]:  # noqa: ARG001 - its order
    """Begin and end without rotations."""
    await call_off_all(fleet)
    yield
    await call_off_all(fleet)


@pytest.fixture
async def no_slot(idle: None, fleet: Fleet) -> None:  # noqa: ARG001 - its order
    """Let devices that do not answer hold all slots, so that what is queued stays queued."""
    for _ in range(SLOTS):
        holder = await fleet.device()
        await fleet.offered(holder)


async def timed_out(fleet: Fleet, stack: Stack, package: Package) -> None:
    await fleet.offered(package)
    await expire(stack, package)
    await fleet.seen(package, "rotation/timed_out", cancelled=False)


async def state(fleet: Fleet, package: Package) -> str:
    return (await fleet.show(package)).rotation_state


async def history(fleet: Fleet, package: Package) -> list[admin.RotationEntry]:
    return (await fleet.ask(admin.ROTATION_HISTORY, device=package.client_id)).rotations


@pytest.mark.usefixtures("no_slot")
@pytest.mark.parametrize("by", ["tag", "model"])
async def test_devices_that_fit_are_queued_and_disabled_ones_are_named(fleet: Fleet, by: str) -> None:
    model, tag = await fleet.model(), uuid4().hex
    meant, disabled = await fleet.device(model, tags=[tag]), await fleet.device(model, tags=[tag, "x"])
    other = await fleet.device(tags=["x"])
    await fleet.ask(admin.DEVICE_UPDATE, device=disabled.client_id, enabled=False)

    request = admin.RotationStart.model_validate({"request_id": uuid4().hex, by: tag if by == "tag" else model})
    first = await fleet.admin.call(admin.ROTATION_START, request)
    assert first.queued == admin.Named(count=1, names=[meant.client_id])
    assert first.skipped == admin.Named(count=1, names=[disabled.client_id])
    assert await state(fleet, meant) == "QUEUED"
    assert await state(fleet, disabled) == await state(fleet, other) == "OK"

    assert await fleet.admin.call(admin.ROTATION_START, request) == first
    again = await fleet.ask(admin.ROTATION_START, tag=tag, model=model)
    assert (again.queued.count, again.already.names) == (0, [meant.client_id])
    both = await fleet.ask(admin.ROTATION_START, device=other.device_key)
    assert both.queued.names == [other.client_id]
    entries = (await fleet.ask(admin.AUDIT_LIST, subject="rotation", limit=1)).entries
    assert [(entry.action, entry.after) for entry in entries] == [
        ("rotation.start", {by: request.tag or request.model, "devices": 1})
    ]
    await fleet.ask(admin.ROTATION_CANCEL, device=meant.client_id)
    await fleet.ask(admin.ROTATION_CANCEL, device=other.client_id)


async def test_what_breaks_a_rule_is_refused_and_changes_nothing(fleet: Fleet) -> None:
    package = await fleet.device()
    await fleet.ask(admin.DEVICE_UPDATE, device=package.client_id, enabled=False)
    refused: list[tuple[admin.Operation[Any, Any], dict[str, Any], str]] = [
        (admin.ROTATION_START, {"device": "zzzzzzzz"}, "not_found"),
        (admin.ROTATION_START, {"tag": uuid4().hex}, "not_found"),
        (admin.ROTATION_START, {"model": "none", "all": True}, "not_found"),
        (admin.ROTATION_START, {"device": package.client_id}, "conflict"),
        (admin.ROTATION_CANCEL, {"device": "zzzzzzzz"}, "not_found"),
        (admin.ROTATION_HISTORY, {"device": f"iotdevice-other-{package.device_key}"}, "not_found"),
        (admin.ROTATION_START, {}, "message_refused"),
        (admin.ROTATION_START, {"device": package.client_id, "all": True}, "message_refused"),
        (admin.ROTATION_CANCEL, {"device": package.client_id, "all": True}, "message_refused"),
        (admin.ROTATION_CANCEL, {}, "message_refused"),
        (admin.ROTATION_STATUS, {"limit": 501}, "message_refused"),
        (admin.ROTATION_HISTORY, {"device": package.client_id, "limit": 0}, "message_refused"),
    ]
    for operation, fields, code in refused:
        request = operation.request.model_construct(request_id=uuid4().hex, **fields)
        with pytest.raises(AnswerError) as error:
            await fleet.admin.call(operation, request)
        assert error.value.answer_code == code, fields
    assert await state(fleet, package) == "OK"
    assert await history(fleet, package) == []


@pytest.mark.usefixtures("no_slot")
async def test_a_queued_device_leaves_the_queue_and_another_stays(fleet: Fleet) -> None:
    package, other = await fleet.device(), await fleet.device()
    for each in (package, other):
        await fleet.ask(admin.ROTATION_START, device=each.client_id)
    request = admin.RotationCancel(request_id=uuid4().hex, device=package.client_id)
    first = await fleet.admin.call(admin.ROTATION_CANCEL, request)
    assert first.dequeued == admin.Named(count=1, names=[package.client_id])
    await fleet.seen(package, "rotation/cancelled")
    assert (await state(fleet, package), await state(fleet, other)) == ("OK", "QUEUED")

    await fleet.ask(admin.ROTATION_START, device=package.client_id)
    assert await fleet.admin.call(admin.ROTATION_CANCEL, request) == first
    assert await state(fleet, package) == "QUEUED"  # the request that came twice has done nothing

    everything = await fleet.ask(admin.ROTATION_CANCEL, all=True)
    assert {package.client_id, other.client_id} <= set(everything.dequeued.names)
    nothing = await fleet.ask(admin.ROTATION_CANCEL, device=package.client_id)
    assert nothing.dequeued.count == nothing.not_retried.count == nothing.ending.count == 0


async def test_a_device_that_timed_out_is_not_tried_again(fleet: Fleet, stack: Stack) -> None:
    package = await fleet.device()
    await timed_out(fleet, stack, package)
    cancelled = await fleet.ask(admin.ROTATION_CANCEL, device=package.client_id)
    assert cancelled.not_retried.names == [package.client_id]
    assert await state(fleet, package) == "OK"
    [row] = await run(stack, "SELECT rotation_retry_at FROM mdm.devices WHERE key = $1", package.device_key)
    assert row["rotation_retry_at"] is None


@pytest.mark.parametrize("step", ["OFFERED", "DELIVERED", "SWITCHED"])
async def test_a_rotation_under_way_ends_with_the_old_secret_and_is_not_tried_again(
    fleet: Fleet, step: str
) -> None:
    package = await fleet.device()
    async with RawDevice(package, online=True) as device:
        await fleet.ask(admin.ROTATION_START, device=package.client_id)
        if step == "DELIVERED":
            await device.fetch_secret()
        if step == "SWITCHED":
            await device.store_secret()
        await fleet.seen(package, f"rotation/{step.lower()}")
        cancelled = await fleet.ask(admin.ROTATION_CANCEL, device=package.client_id)
        assert cancelled.ending == admin.Named(count=1, names=[package.client_id])
        await fleet.seen(package, "rotation/timed_out", cancelled=True)

    assert await state(fleet, package) == "OK"
    assert [entry.outcome for entry in await history(fleet, package)] == ["TIMEOUT"]
    assert await credentials.keycloak_accepts(package)
    assert await credentials.broker_accepts(package)
    async with fleet.powered(package):
        await fleet.until(package, lambda view: view.online)
        await fleet.ask(admin.ROTATION_START, device=package.client_id)
        await fleet.seen(package, "rotation/completed")
    assert (await fleet.show(package)).secret_generation == 3


async def test_a_cancelled_rotation_whose_device_has_logged_in_is_completed(fleet: Fleet, stack: Stack) -> None:
    package = await fleet.device()
    async with fleet.powered(package, cut_at="publish.rotation.ack:before") as power:
        await fleet.until(package, lambda view: view.online)
        await fleet.ask(admin.ROTATION_START, device=package.client_id)
        await power.failed()
    query = """SELECT p.secret_generation FROM mdm.device_presence p JOIN mdm.devices d ON d.id = p.device_id
        WHERE d.key = $1"""
    await until(lambda: run(stack, query, package.device_key), lambda rows: rows[0]["secret_generation"] == 2)
    cancelled = await fleet.ask(admin.ROTATION_CANCEL, device=package.client_id)
    assert cancelled.ending.names == [package.client_id]
    await fleet.seen(package, "rotation/completed")
    renewed = await fleet.ask(admin.DEVICE_PROVISION, device=package.client_id)
    assert (await state(fleet, package), renewed.secret_generation) == ("OK", 2)
    assert await credentials.keycloak_accepts(renewed)


async def test_a_rotation_that_is_cancelled_while_no_rotator_runs_is_not_tried_again_by_the_next(
    fleet: Fleet, system: System
) -> None:
    package = await fleet.device()
    await fleet.offered(package)
    await fleet.ask(admin.ROTATION_CANCEL, device=package.client_id)
    await asyncio.to_thread(system.services["rotator"].kill)
    await asyncio.to_thread(system.services["rotator"].start)
    await fleet.seen(package, "rotation/timed_out", cancelled=True)
    assert await state(fleet, package) == "OK"


async def test_the_status_shows_what_is_under_way_by_pages(fleet: Fleet) -> None:
    first, second = await fleet.device(), await fleet.device()
    async with RawDevice(first, online=True) as device, RawDevice(second, online=True):
        await fleet.ask(admin.ROTATION_START, device=first.client_id)
        await device.fetch_secret()
        await fleet.offered(second)
        page = await fleet.ask(admin.ROTATION_STATUS, limit=1)
        rest = await fleet.ask(admin.ROTATION_STATUS, limit=2, after=page.next)
        assert page.counts.pending == 2
        assert [it.client_id for it in page.under_way + rest.under_way] == [first.client_id, second.client_id]
        (shown,) = page.under_way
        assert (shown.step, shown.slot, shown.generation, shown.cancelled) == ("DELIVERED", 0, 2, False)
        assert 0 < shown.left_s <= 300
        assert (rest.under_way[0].step, rest.under_way[0].slot, rest.next) == ("OFFERED", 1, None)
        ended = await fleet.ask(admin.ROTATION_CANCEL, all=True)
        assert set(ended.ending.names) == {first.client_id, second.client_id}
        for package in (first, second):
            await fleet.seen(package, "rotation/timed_out", cancelled=True)
    assert (await fleet.ask(admin.ROTATION_STATUS)).under_way == []


async def test_the_history_is_newest_first_in_pages_and_of_one_device(fleet: Fleet) -> None:
    package, other = await fleet.device(), await fleet.device()
    async with fleet.powered(package):
        await fleet.until(package, lambda view: view.online)
        for _ in range(2):
            await fleet.ask(admin.ROTATION_START, device=package.client_id)
            await fleet.seen(package, "rotation/completed")
        current = await fleet.ask(admin.DEVICE_PROVISION, device=package.client_id)
    async with RawDevice(current, online=True) as device:
        await fleet.ask(admin.ROTATION_START, device=package.client_id)
        rotation_id, _ = await device.fetch_secret()
        wrong = messages.RotationStored(rotation_id=rotation_id, proof="0" * 64)
        await device.send(topics.ROTATION_STORED, wrong)
        await fleet.seen(package, "rotation/proof_refused")
        page = await fleet.ask(admin.ROTATION_HISTORY, device=package.device_key, limit=2)
        rest = await fleet.ask(admin.ROTATION_HISTORY, device=package.device_key, limit=2, before=page.next)
        await fleet.ask(admin.ROTATION_CANCEL, device=package.client_id)
        await fleet.seen(package, "rotation/timed_out")

    newest, second, oldest = page.rotations + rest.rotations
    assert (page.client_id, rest.next) == (package.client_id, None)
    assert [newest.generation, second.generation, oldest.generation] == [4, 3, 2]
    assert (newest.rotation_id, newest.outcome, newest.step) == (rotation_id, None, "DELIVERED")
    assert (newest.refused_proofs, newest.duration_s, newest.ended_at) == (1, None, None)
    for done in (second, oldest):
        assert (done.outcome, done.refused_proofs) == ("DONE", 0)
        times = [done.started_at, done.delivered_at, done.stored_at, done.switched_at, done.ended_at]
        known = [time for time in times if time is not None]
        assert len(known) == len(times)
        assert known == sorted(known)
        assert done.duration_s == (known[-1] - known[0]).total_seconds()
    assert [entry.outcome for entry in await history(fleet, package)] == ["TIMEOUT", "DONE", "DONE"]
    assert await history(fleet, other) == []


@pytest.mark.usefixtures("no_slot")
async def test_a_large_fleet_is_counted_and_not_all_named(fleet: Fleet, stack: Stack) -> None:
    model, tag = await fleet.model(), uuid4().hex
    await run(
        stack,
        """
        WITH added AS (
            INSERT INTO mdm.devices (key, model_id, name, tags, lifecycle, request_id, config_version)
            SELECT lpad(n::text, 8, '0'), (SELECT id FROM mdm.device_models WHERE code = $1), '', ARRAY[$2],
                'ACTIVE', 'large/' || n, 0
            FROM generate_series(1, $3::int) n RETURNING id
        )
        INSERT INTO mdm.device_configs (device_id, version, overrides, document, author)
        SELECT id, 0, '{}', '{}', 'test' FROM added
        """,
        *(model, tag, MANY),
    )
    try:
        started = await fleet.ask(admin.ROTATION_START, tag=tag)
        again = await fleet.ask(admin.ROTATION_START, model=model)
        status = await fleet.ask(admin.ROTATION_STATUS)
        cancelled = await fleet.ask(admin.ROTATION_CANCEL, all=True)
    finally:
        await run(stack, "DELETE FROM mdm.devices WHERE $1 = ANY(tags)", tag)
    assert (started.queued.count, len(started.queued.names)) == (MANY, admin.MAX_NAMED)
    assert (again.already.count, again.queued.count) == (MANY, 0)
    assert status.counts.queued >= MANY
    assert cancelled.dequeued.count >= MANY
    assert len(cancelled.dequeued.names) == admin.MAX_NAMED


async def test_a_device_whose_cancelled_rotation_has_not_ended_is_not_said_to_be_queued(
    fleet: Fleet, system: System
) -> None:
    package = await fleet.device()
    await fleet.offered(package)
    # Without the key the rotator cannot end it.
    await restart(system, Fernet.generate_key().decode())
    try:
        cancelled = await fleet.ask(admin.ROTATION_CANCEL, device=package.client_id)
        assert cancelled.ending.names == [package.client_id]
        [shown] = (await fleet.ask(admin.ROTATION_STATUS)).under_way
        assert (shown.client_id, shown.left_s, shown.cancelled) == (package.client_id, 0, True)
        started = await fleet.ask(admin.ROTATION_START, device=package.client_id)
        assert (started.ending.names, started.queued.count, started.already.count) == ([package.client_id], 0, 0)
    finally:
        await restart(system)
    await fleet.seen(package, "rotation/timed_out", cancelled=True)
    started = await fleet.ask(admin.ROTATION_START, device=package.client_id)
    assert started.queued.names == [package.client_id]
