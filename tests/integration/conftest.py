from __future__ import annotations

from collections.abc import AsyncIterator

import pytest

from dev.database import empty_database
from dev.stack import Stack
from dev.system import System
from shared.database.engine import Database


@pytest.fixture
async def database(stack: Stack) -> AsyncIterator[Database]:
    """A database without a rotator, so that the lock is free."""
    async with empty_database(stack, "leader") as made:
        yield made


@pytest.fixture
async def compared(system: System) -> None:
    """Begin when the registry compares nothing: it would repair what the test breaks."""
    await system.compared()
