"""Vitals on the real stack: summed up by the hour and by firmware, kept for a while, and never a burden."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from functools import partial
from typing import Any

import pytest

from cli.client import AnswerError
from dev.credentials import device_client
from dev.database import run
from dev.fleet import OPTIONS, Fleet
from dev.system import System
from dev.uploads import build, upload
from dev.waiting import until
from device.options import Hooks
from shared.protocol import admin, messages, topics
from shared.protocol.admin import DeviceVitals, Package
from tests.hours import hour_has_begun
from tests.raw import RawDevice
from tests.swarm import status

OLDER = (
    "UPDATE mdm.device_vitals SET hour = hour - interval '5 hours'"
    " WHERE device_id = (SELECT id FROM mdm.devices WHERE key = $1)"
)
COUNTED = (
    "SELECT numbers[1] AS messages FROM mdm.device_vitals"
    " WHERE device_id = (SELECT id FROM mdm.devices WHERE key = $1)"
)
ADDED = (
    "INSERT INTO mdm.device_vitals (device_id, hour, names, numbers)"
    " SELECT id, date_trunc('hour', now(), 'UTC') - $2::interval, 't', '{1, 2, 2, 2, 2, 0}'"
    " FROM mdm.devices WHERE key = $1"
)


@pytest.fixture(autouse=True)
async def within_an_hour() -> None:
    """Do not begin a moment before the next hour, which has sums of its own."""
    await hour_has_begun()


async def send(device: RawDevice, payload: dict[str, Any] | bytes, *, qos: int = 1) -> None:
    body = payload if isinstance(payload, bytes) else json.dumps(payload).encode()
    await device.client.publish(topics.VITALS.of(client_id=device.client_id), body, qos=qos)


async def shown(fleet: Fleet, package: Package, **fields: object) -> DeviceVitals:
    return await fleet.ask(admin.VITALS_SHOW, device=package.client_id, **fields)


async def until_shown(
    fleet: Fleet, package: Package, hold: Callable[[dict[str, admin.VitalView]], object], **fields: object
) -> DeviceVitals:
    return await until(
        partial(shown, fleet, package, **fields), lambda found: hold({it.name: it for it in found.vitals})
    )


async def test_numbers_are_summed_up_by_the_hour(fleet: Fleet, system: System) -> None:
    package = await fleet.device()
    async with RawDevice(package) as device:
        await device.send(topics.VITALS, messages.Vitals({"heap_free_bytes": 90_000, "t_celsius": 20.5}))
        await device.send(topics.VITALS, messages.Vitals({"heap_free_bytes": 80_000}))
        await send(device, {"heap_free_bytes": 85_000}, qos=0)
        found = await until_shown(fleet, package, lambda it: it and it["heap_free_bytes"].last == 85_000)
    heap, temperature = found.vitals
    assert (heap.low, heap.high, heap.last) == (80_000, 90_000, 85_000)
    assert datetime.now(UTC) - heap.at < timedelta(minutes=1)
    assert (temperature.name, temperature.last, found.points) == ("t_celsius", 20.5, [])
    await run(system.stack, OLDER, package.device_key)
    async with RawDevice(package) as device:
        await send(device, {"heap_free_bytes": 70_000})
        found = await until_shown(
            fleet, package, lambda it: it["heap_free_bytes"].low == 70_000, name="heap_free_bytes"
        )
    assert [(it.low, it.mean, it.high) for it in found.points] == [
        (80_000, 85_000, 90_000),
        (70_000, 70_000, 70_000),
    ]
    newest = await shown(fleet, package, since_s=3600)
    assert [(it.name, it.high) for it in newest.vitals] == [("heap_free_bytes", 70_000)]


async def test_an_odd_number_costs_no_other_and_is_shown_until_it_is_gone(fleet: Fleet) -> None:
    package = await fleet.device()
    async with RawDevice(package) as device:
        await send(device, b'{"uptime_s": 7, "t_celsius": nan, "Free Heap": 1, "\\u0000": 1, "none": null}')
        await until_shown(fleet, package, lambda it: it and it["uptime_s"].last == 7)
        view = await until(partial(fleet.show, package), lambda view: view.flaws)
        assert [(it.topic, it.field) for it in view.flaws] == [
            ("up/vitals", "Free Heap"),
            ("up/vitals", "t_celsius"),
            ("up/vitals", "\ufffd"),
        ]
        await send(device, {"uptime_s": 8, **{f"v{number}": number for number in range(20)}})
        view = await until(
            partial(fleet.show, package),
            lambda view: {it.field for it in view.flaws} == {f"v{number}" for number in range(15, 20)},
        )
        assert view.flaws[0].rule == "must be one of at most 16 vitals in an hour"
        await send(device, {"uptime_s": 9})
        await until(partial(fleet.show, package), lambda view: not view.flaws)
    assert len((await shown(fleet, package)).vitals) == 16


async def test_a_device_that_sends_without_end_is_slowed_down_and_delays_no_other(
    fleet: Fleet, system: System
) -> None:
    noisy, quiet = await fleet.device(), await fleet.device()
    async with RawDevice(noisy) as device, RawDevice(quiet) as other:
        for number in range(60):
            await send(device, {"count": number})
        await send(other, {"count": 1})
        await until_shown(fleet, quiet, bool)
        await until_shown(fleet, noisy, bool)
    (row,) = await run(system.stack, COUNTED, noisy.device_key)
    assert int(row["messages"]) <= 12


async def test_firmware_is_compared_by_the_vitals_of_its_devices(fleet: Fleet) -> None:
    model = await fleet.model()
    image = await upload(fleet, model, build(model, "2.0.0"), release=False)
    packages = [await fleet.device(model) for _ in range(4)]
    for number, package in enumerate(packages):
        async with RawDevice(package) as device:
            running = status(model) if number == 0 else messages.Status(online=True, firmware_sha256=image.sha256)
            await device.send(topics.STATUS, running)
            await fleet.until(package, lambda view: view.online)
            await send(device, {"heap_free_bytes": 100_000 - 10_000 * number, "uptime_s": number})
            await until_shown(fleet, package, bool)
    found = await fleet.ask(admin.VITALS_COMPARE, model=model, name="heap_free_bytes")
    new, old = found.vitals
    assert (new.version, new.devices, new.median, new.mean) == ("2.0.0", 3, 80_000, 80_000)
    assert (new.p5, new.p95) == (71_000, 89_000)
    assert (old.version, old.devices, old.median) == ("1.0.0", 1, 100_000)
    every = await fleet.ask(admin.VITALS_COMPARE, model=model)
    assert [it.name for it in every.vitals] == ["heap_free_bytes", "heap_free_bytes", "uptime_s", "uptime_s"]
    # A device that is updated within an hour counts for what it runs then.
    async with RawDevice(packages[0]) as device:
        await device.send(topics.STATUS, messages.Status(online=True, firmware_sha256=image.sha256))
        await until(partial(fleet.show, packages[0]), lambda view: view.firmware_version is None)
        await send(device, {"heap_free_bytes": 60_000})
        await until_shown(fleet, packages[0], lambda it: it["heap_free_bytes"].last == 60_000)
    (only,) = (await fleet.ask(admin.VITALS_COMPARE, model=model, name="heap_free_bytes")).vitals
    assert (only.version, only.devices, only.median) == ("2.0.0", 4, 75_000)


async def test_hours_are_forgotten_after_their_time(fleet: Fleet, system: System) -> None:
    package = await fleet.device()
    for age in (timedelta(days=31), timedelta(days=29)):
        await run(system.stack, ADDED, package.device_key, age)
    assert len((await shown(fleet, package, name="t", since_s=40 * 86400)).points) == 2
    await system.restart("firmware")
    await until(partial(shown, fleet, package, name="t", since_s=40 * 86400), lambda found: len(found.points) == 1)


async def test_the_vitals_of_a_removed_device_are_gone_and_unknown_names_are_refused(fleet: Fleet) -> None:
    package = await fleet.device()
    async with RawDevice(package) as device:
        await send(device, {"t": 1})
        await until_shown(fleet, package, bool)
    with pytest.raises(
        AnswerError, match=f"name: {package.client_id} has not reported u in this time; there are t"
    ):
        await shown(fleet, package, name="u")
    with pytest.raises(AnswerError, match="no model"):
        await fleet.ask(admin.VITALS_COMPARE, model="none_such")
    await fleet.ask(admin.DEVICE_REMOVE, device=package.client_id)
    with pytest.raises(AnswerError, match="no device"):
        await shown(fleet, package)


async def test_a_device_cannot_report_for_another(fleet: Fleet) -> None:
    mine, other = await fleet.device(), await fleet.device()
    async with device_client(other) as thief:
        for client_id in (mine.client_id, other.client_id):
            await thief.publish(topics.VITALS.of(client_id=client_id), b'{"t":1}', qos=1)
        await until_shown(fleet, other, bool)
    assert (await shown(fleet, mine)).vitals == []


async def test_the_reference_device_reports_vitals_and_is_shown_since_when_it_runs(fleet: Fleet) -> None:
    package = await fleet.device()
    hooks = Hooks(measure=lambda: {"battery_mv": 3912})
    began = datetime.now(UTC)
    async with fleet.powered(package, options=replace(OPTIONS, vitals_s=60), hooks=hooks):
        found = await until_shown(fleet, package, bool)
        view = await fleet.show(package)
    assert next((it.name, it.last) for it in found.vitals) == ("battery_mv", 3912)
    assert view.up_since is not None
    assert began - timedelta(seconds=5) < view.up_since < datetime.now(UTC)
    assert view.reset_reason == "poweron"
