"""The database behind the services' backs: to look at rows, or to change them as no service would."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import asyncpg

from tests.stack import Stack


@asynccontextmanager
async def database(stack: Stack) -> AsyncIterator[asyncpg.Connection]:
    """Connect for the block."""
    connection = await asyncpg.connect(stack.endpoints.database_url.replace("+asyncpg", ""))
    try:
        yield connection
    finally:
        await connection.close()
