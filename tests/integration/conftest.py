from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest
from pydantic import SecretStr
from sqlalchemy import text

from dev.stack import Stack
from shared.database import engine, migrate
from shared.database.engine import Database


@asynccontextmanager
async def empty_database(stack: Stack, name: str) -> AsyncIterator[Database]:
    """Make a database with the newest schema beside the services' one, and open it for the block."""
    base = stack.endpoints.database_url
    async with engine.connected(SecretStr(base)) as present, present.engine.connect() as connection:
        autocommit = await connection.execution_options(isolation_level="AUTOCOMMIT")
        await autocommit.execute(text(f"DROP DATABASE IF EXISTS {name} WITH (FORCE)"))
        await autocommit.execute(text(f"CREATE DATABASE {name}"))
    url = base.rpartition("/")[0] + f"/{name}"
    await asyncio.to_thread(migrate.upgrade, url)
    async with engine.connected(SecretStr(url)) as connected:
        yield connected


@pytest.fixture
async def database(stack: Stack) -> AsyncIterator[Database]:
    """A database without a rotator, so that the lock is free."""
    async with empty_database(stack, "leader") as made:
        yield made
