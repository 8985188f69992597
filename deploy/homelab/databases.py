"""Creates users and databases and migrates ours to the newest schema: `python -m deploy.homelab.databases`."""

from __future__ import annotations

import asyncio
import json
import os
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import asyncpg

from shared.database import grants, migrate

if TYPE_CHECKING:
    from collections.abc import Mapping

WANTED: Final = Path("/run/mdm/databases.json")
OURS: Final = "mdm"
"""Our database, and its owner, who migrates it; no service is the owner."""


async def ensure(facts: Mapping[str, Any], host: str) -> None:
    """Create each database and its owner, and the users of ours, with their passwords, unless they exist."""
    connection = await asyncpg.connect(
        host=host, user="postgres", database="postgres", password=facts["superuser"]
    )
    try:
        for name, password in facts["databases"].items():
            await ensure_user(connection, name, password)
            if not await connection.fetchval("SELECT 1 FROM pg_database WHERE datname = $1", name):
                await connection.execute(f'CREATE DATABASE "{name}" OWNER "{name}"')
            # Each user may connect to its own database only, not to all of them, as by PostgreSQL's default.
            await connection.execute(f'REVOKE ALL ON DATABASE "{name}" FROM PUBLIC')
        await ensure_services(connection, OURS, OURS, facts["users"])
    finally:
        await connection.close()


async def ensure_user(connection: asyncpg.Connection, name: str, password: str) -> None:
    """Create a user that may log in, unless it exists, and set its password (base64url)."""
    if not await connection.fetchval("SELECT 1 FROM pg_roles WHERE rolname = $1", name):
        await connection.execute(f'CREATE ROLE "{name}" LOGIN')
    # The statement accepts no parameter for the password.
    await connection.execute(f"ALTER ROLE \"{name}\" PASSWORD '{password}'")


async def ensure_services(
    connection: asyncpg.Connection, database: str, owner: str, passwords: Mapping[str, str]
) -> None:
    """Create the users of the services and of backups, by name; the migration grants their rights in tables."""
    for name, password in passwords.items():
        await ensure_user(connection, name, password)
        await connection.execute(f'GRANT CONNECT ON DATABASE "{database}" TO "{name}"')
    # It acts as the owner from its login on, so that the owner owns what a restore creates.
    await connection.execute(f'GRANT "{owner}" TO {grants.BACKUP_USER}')
    await connection.execute(f"ALTER ROLE {grants.BACKUP_USER} SET role = '{owner}'")


def main() -> None:
    """Create the databases, then migrate ours."""
    asyncio.run(ensure(json.loads(WANTED.read_text()), "postgres"))
    migrate.upgrade(os.environ["MDM_DATABASE_URL"])


if __name__ == "__main__":
    main()
