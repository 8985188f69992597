"""The firmware service is killed at each step of a rollout: it goes on, and nobody is offered the image twice.

The steps are those that one run takes, and each is a case.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import suppress
from functools import partial
from pathlib import Path
from typing import Final

import pytest

from shared import admin
from shared.admin import Package
from tests.database import run
from tests.fleet import Fleet
from tests.integration.test_rollouts import AT_ONCE, fit, stored
from tests.matrix import Matrix
from tests.mortal import Death, Fate, deaths
from tests.stack import Stack
from tests.swarm import packages, swarming
from tests.system import System

LAST: Final = "publish events/rollout/completed:after"
NOISE: Final = [
    f"commit {what}:{moment}"
    for what in ("Conductor.run", "Conductor._further", "Outbox._drain_batch", "Firmware.count_stands")
    for moment in ("before", "after")
]
NOTED: Final = """
    SELECT state, count(*) FILTER (WHERE offered_at IS NOT NULL) AS offered, count(*) AS devices,
        (SELECT count(*) FROM mdm.outbox) AS unsaid FROM mdm.rollout_devices WHERE rollout_id = $1 GROUP BY state
"""


@pytest.fixture
async def fate(system: System, tmp_path: Path) -> AsyncIterator[Fate]:
    """A firmware service that can be killed at a step."""
    fate = Fate(tmp_path)
    await asyncio.to_thread(system.stop, "firmware")
    await asyncio.to_thread(partial(system.start, "firmware", fate=fate, MDM_ROLLOUT_SWEEP_S="0.1"))
    yield fate
    await asyncio.to_thread(system.stop, "firmware")
    await asyncio.to_thread(system.start, "firmware")


async def rolled_out(fleet: Fleet, model: str, wanted: list[Package], version: str) -> int:
    """Roll an image out to devices in two waves, and return the rollout."""
    async with swarming(model, wanted) as swarm:
        swarm.go.set()
        await stored(fleet, model, version)
        await fit(fleet, model, len(wanted), version)
        plan = {**AT_ONCE, "waves": ["1", "100%"]}
        begun = await fleet.ask(admin.ROLLOUT_START, model=model, version=version, plan=plan)
        await fleet.witness.seen(None, "rollout/completed", rollout=begun.rollout)
        assert all(count <= 2 for count in swarm.offers.values()), "said twice at most, as a message may be"
    return begun.rollout
