"""Each message of a rotation is lost, doubled and late; a deadline is not waited for, it is set to now."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Any

import pytest

from dev.database import run
from dev.fleet import Fleet
from dev.system import System
from shared.protocol import admin, topics
from shared.protocol.topics import Topic
from tests.faults.promise import ended, expire, kept
from tests.faults.weather import Fault, Weather
from tests.matrix import Matrix

IS_ONLINE = """
    UPDATE mdm.device_presence SET online = true FROM mdm.devices WHERE devices.id = device_id AND key = $1
"""
ROTATION = [topic for topic in topics.TOPICS.values() if "/rotation/" in topic.template or topic is topics.STATUS]


@pytest.fixture
async def patient(system: System) -> AsyncIterator[System]:
    """Run the rotator with a deadline that never comes by itself."""
    async with system.altered("rotator", MDM_ROTATION_DEADLINE_S="120", MDM_SWEEP_S="0.2"):
        yield system


async def test_each_message_of_a_rotation_may_be_lost_doubled_or_late(
    fleet: Fleet, patient: System, monkeypatch: pytest.MonkeyPatch
) -> None:
    matrix = Matrix("each message of a rotation is lost once, lost, doubled, late")
    for topic in ROTATION:
        for fault in Fault:
            async with matrix.case(f"{topic.template} {fault}") as case:
                case.outcome = await rotated_in(fleet, patient, monkeypatch, topic, fault)
    matrix.end()


async def rotated_in(
    fleet: Fleet, patient: System, monkeypatch: pytest.MonkeyPatch, topic: Topic[Any], fault: Fault
) -> str:
    """Rotate a device's secret in a weather, and return how it ended."""
    # Only a device that is silent until the deadline hears that its rotation is cancelled.
    silent = topics.ROTATION_REQUEST if topic is topics.ROTATION_CANCELLED else None
    weather = Weather(topic, fault, also_lost=silent)
    package = await fleet.device()
    # An offer is not repeated while the device stays connected: the next attempt makes another.
    stands_still = weather.outlasts_the_deadline or (topic, fault) == (topics.ROTATION_OFFER, Fault.LOST_ONCE)
    with monkeypatch.context() as patched:
        weather.begin(patched)
        async with fleet.powered(package):
            await run(patient.stack, IS_ONLINE, package.device_key)  # whatever becomes of its status
            await fleet.ask(admin.ROTATION_START, device=package.client_id)
            await fleet.seen(package, "rotation/offered")
            await weather.holds()
            if stands_still:
                await expire(patient.stack, package)
            await ended(fleet, patient.stack, package)
            await weather.clear_up()
            return (await kept(fleet, patient.stack, package)).rotation_state
