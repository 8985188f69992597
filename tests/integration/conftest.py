from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator

import pytest
from pydantic import SecretStr
from sqlalchemy import text

from shared import migrate, postgres
from shared.postgres import Database
from tests.stack import Stack


@pytest.fixture
async def database(stack: Stack) -> AsyncIterator[Database]:
    """A database without a rotator, so that the lock is free."""
    base = stack.endpoints.database_url
    async with postgres.connected(SecretStr(base)) as present, present.engine.connect() as connection:
        autocommit = await connection.execution_options(isolation_level="AUTOCOMMIT")
        await autocommit.execute(text("DROP DATABASE IF EXISTS leader WITH (FORCE)"))
        await autocommit.execute(text("CREATE DATABASE leader"))
    url = base.rpartition("/")[0] + "/leader"
    await asyncio.to_thread(migrate.upgrade, url)
    async with postgres.connected(SecretStr(url)) as connected:
        yield connected
