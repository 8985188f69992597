"""Makes users and databases and brings ours to the newest schema: `python -m deploy.homelab.databases`."""

from __future__ import annotations

import asyncio
import json
import os
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import asyncpg

from shared import migrate

if TYPE_CHECKING:
    from collections.abc import Mapping

WANTED: Final = Path("/run/mdm/databases.json")


async def ensure(facts: Mapping[str, Any], host: str) -> None:
    """Make each database and its user, with its password, unless they are there."""
    connection = await asyncpg.connect(
        host=host, user="postgres", database="postgres", password=facts["superuser"]
    )
    try:
        for name, password in facts["databases"].items():
            if not await connection.fetchval("SELECT 1 FROM pg_roles WHERE rolname = $1", name):
                await connection.execute(f'CREATE ROLE "{name}" LOGIN')
            # A password is no parameter of this statement; ours are base64url.
            await connection.execute(f"ALTER ROLE \"{name}\" PASSWORD '{password}'")
            if not await connection.fetchval("SELECT 1 FROM pg_database WHERE datname = $1", name):
                await connection.execute(f'CREATE DATABASE "{name}" OWNER "{name}"')
    finally:
        await connection.close()


def main() -> None:
    """Make the databases, then migrate ours."""
    asyncio.run(ensure(json.loads(WANTED.read_text()), "postgres"))
    migrate.upgrade(os.environ["MDM_DATABASE_URL"])


if __name__ == "__main__":
    main()
