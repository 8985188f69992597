"""Each message of a rotation is lost, doubled, late, and the last of its connection, with each kind of device.

A deadline is not waited for, it is set to now. The other kinds than the reference device usually take half of the
cases, drawn by a seed: `FAULTS=all` takes all, and `MATRIX_SEED` the same again.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from typing import Any, Final

import pytest

from dev.database import run
from dev.device_kinds import DeviceKind
from dev.fleet import Fleet
from dev.system import System
from shared.protocol import admin, topics
from shared.protocol.topics import Topic
from tests.devices import every_device, sample
from tests.faults.promise import ended, expire, kept
from tests.faults.roads import opened, watched
from tests.faults.weather import Fault, Weather
from tests.matrix import Matrix

SIDE_BY_SIDE: Final = 6
SAMPLE: Final = 15
IS_ONLINE = """
    UPDATE mdm.device_presence SET online = true FROM mdm.devices WHERE devices.id = device_id AND key = $1
"""
ROTATION = [topic for topic in topics.TOPICS.values() if "/rotation/" in topic.template or topic is topics.STATUS]


@pytest.fixture
async def patient(system: System) -> AsyncIterator[System]:
    """Run the rotator with a deadline that never comes by itself."""
    async with system.altered("rotator", MDM_ROTATION_DEADLINE_S="120", MDM_SWEEP_S="0.2"):
        yield system


@every_device
async def test_each_message_of_a_rotation_may_be_lost_doubled_or_late(
    fleet: Fleet, patient: System, kind: DeviceKind
) -> None:
    cells, drawn = sample(kind, [(topic, fault) for topic in ROTATION for fault in Fault], SAMPLE)
    matrix = Matrix(f"{kind}: each message of a rotation is lost once, lost, doubled, late, cut{drawn}")
    turns = asyncio.Semaphore(SIDE_BY_SIDE)

    async def one(topic: Topic[Any], fault: Fault) -> None:
        async with turns, matrix.case(f"{topic.template} {fault}") as case:
            case.outcome = await rotated_in(fleet, patient, kind, topic, fault)

    await asyncio.gather(*(one(*cell) for cell in cells))
    matrix.end()


async def rotated_in(fleet: Fleet, patient: System, kind: DeviceKind, topic: Topic[Any], fault: Fault) -> str:
    """Rotate a device's secret in a weather, and return how it ended."""
    # Only a device that is silent until the deadline hears that its rotation is cancelled.
    silent = topics.ROTATION_REQUEST if topic is topics.ROTATION_CANCELLED else None
    weather = Weather(topic, fault, also_lost=silent)
    package = await fleet.device()
    # An offer is not repeated while the device stays connected: the next attempt makes another.
    stands_still = weather.outlasts_the_deadline or (topic, fault) == (topics.ROTATION_OFFER, Fault.LOST_ONCE)
    async with opened(watched(patient.stack.endpoints, weather.judge)) as road:
        on_road = package.model_copy(update={"mqtt_port": road.port})
        async with kind.powered(on_road, fleet.folder / package.client_id):
            await road.subscribed()
            await run(patient.stack, IS_ONLINE, package.device_key)  # whatever becomes of its status
            await fleet.ask(admin.ROTATION_START, device=package.client_id)
            await fleet.seen(package, "rotation/offered")
            await weather.holds()
            if stands_still:
                await expire(patient.stack, package)
            await ended(fleet, patient.stack, package)
            await weather.clear_up(road)
            return (await kept(fleet, patient.stack, package)).rotation_state
