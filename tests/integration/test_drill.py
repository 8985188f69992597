"""The drills on a few devices: an update of all services, and a database that is away for a moment."""

from __future__ import annotations

from pathlib import Path

import pytest

from dev.drill import DRILLS, Drill, passes
from dev.fleet import Fleet
from dev.simulator import simulating
from dev.system import SERVICES, System

DEVICES = 6


@pytest.mark.parametrize("name", ["postgres", "update"])
async def test_a_drill_loses_no_device_and_no_answer(
    fleet: Fleet, system: System, tmp_path: Path, name: str
) -> None:
    model = await fleet.model()
    async with (
        system.altered("rotator", MDM_ROTATION_DEADLINE_S="60", MDM_ROTATION_RETRY_S="1"),
        simulating(system, tmp_path, "--devices", DEVICES, "--model", model) as simulator,
    ):
        await simulator.until(lambda counts: counts["connected"] == DEVICES, patience_s=120)
        row = await Drill(system, simulator, fleet, away_s=1, model=model).run(name)
        assert passes(row), row
        assert set(system.services) == set(SERVICES)


def test_a_drill_is_lost_by_a_device_or_an_answer_and_an_update_by_a_refusal() -> None:
    row = {"drill": "update", "not connected": 0, "not rotated": 0, "unanswered": 0, "refused": 0}
    assert passes(row)
    assert passes({**row, "drill": "broker", "refused": 1})
    for name in ("not connected", "not rotated", "unanswered", "refused"):
        assert not passes({**row, name: 1})
    assert set(DRILLS) == {"broker", "keycloak", "postgres", "update"}
