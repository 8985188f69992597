"""Direct access to the services' database."""

from __future__ import annotations

import asyncpg

from dev.stack import Stack


async def run(stack: Stack, statement: str, *values: object) -> list[asyncpg.Record]:
    """Run one statement and return its rows."""
    connection = await asyncpg.connect(stack.endpoints.database_url.replace("+asyncpg", ""))
    try:
        return await connection.fetch(statement, *values)
    finally:
        await connection.close()
