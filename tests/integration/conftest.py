from __future__ import annotations

from collections.abc import AsyncIterator
from functools import partial

import pytest

from dev.database import empty_database
from dev.fleet import Fleet
from dev.stack import Stack
from dev.system import System
from shared.database.engine import Database
from shared.protocol import admin


@pytest.fixture
async def database(stack: Stack) -> AsyncIterator[Database]:
    """A database without a rotator, so that the lock is free."""
    async with empty_database(stack, "leader") as made:
        yield made


@pytest.fixture
async def compared(system: System) -> None:
    """Begin when the registry compares nothing: it would repair what the test breaks."""
    await system.compared()


async def call_off_all(fleet: Fleet) -> None:
    """Call off whatever tests have left, and wait until it has ended."""
    await fleet.ask(admin.ROTATION_CANCEL, all=True)
    await fleet.witness.until(
        partial(fleet.ask, admin.ROTATION_STATUS), lambda found: not found.counts.queued + found.counts.pending
    )


@pytest.fixture
async def no_rotations(fleet: Fleet) -> None:
    """Begin without rotations of other tests, which may hold the only slot, and end at any time."""
    await call_off_all(fleet)


@pytest.fixture
async def patient(no_rotations: None, fleet: Fleet, system: System) -> AsyncIterator[None]:
    """Run a rotator with a deadline that no test reaches, and leave it no rotation."""
    del no_rotations
    async with system.altered("rotator", MDM_ROTATION_DEADLINE_S="300"):
        yield
        await call_off_all(fleet)
