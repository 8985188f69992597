"""Direct access to the services' database."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from typing import Final
from weakref import WeakKeyDictionary

import asyncpg
from pydantic import SecretStr

from dev.stack import Stack
from shared.database import engine, migrate
from shared.database.engine import Database

_GONE: Final = (asyncpg.PostgresConnectionError, asyncpg.AdminShutdownError, asyncpg.InterfaceError)
_idle: Final[WeakKeyDictionary[asyncio.AbstractEventLoop, dict[str, list[asyncpg.Connection]]]] = (
    WeakKeyDictionary()
)
"""Connections of each loop, by URL: to make one takes both sides longer than a statement."""


async def run(stack: Stack, statement: str, *values: object) -> list[asyncpg.Record]:
    """Run one statement and return its rows."""
    url = stack.endpoints.database_url.replace("+asyncpg", "")
    idle = _idle.setdefault(asyncio.get_running_loop(), {}).setdefault(url, [])
    while idle:
        with suppress(*_GONE):
            return await _fetch(idle.pop(), idle, statement, values)
    return await _fetch(await asyncpg.connect(url, statement_cache_size=0), idle, statement, values)


async def disconnect() -> None:
    """Close the idle connections of this loop, for those who want the database for themselves."""
    for idle in _idle.pop(asyncio.get_running_loop(), {}).values():
        for connection in idle:
            await connection.close()


@asynccontextmanager
async def empty_database(stack: Stack, name: str) -> AsyncIterator[Database]:
    """Make a database with the newest schema next to the services' one, open it for the block, and drop it."""
    url = stack.endpoints.database_url.rpartition("/")[0] + f"/{name}"
    await run(stack, f"DROP DATABASE IF EXISTS {name} WITH (FORCE)")
    await run(stack, f"CREATE DATABASE {name}")
    await asyncio.to_thread(migrate.upgrade, url)
    async with engine.connected(SecretStr(url)) as connected:
        yield connected
    await run(stack, f"DROP DATABASE {name} WITH (FORCE)")


async def _fetch(
    connection: asyncpg.Connection, idle: list[asyncpg.Connection], statement: str, values: tuple[object, ...]
) -> list[asyncpg.Record]:
    try:
        rows = await connection.fetch(statement, *values)
    except BaseException:
        connection.terminate()
        raise
    idle.append(connection)
    return rows
