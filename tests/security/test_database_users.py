"""What a service that is taken over may do in the database: what it needs for its own work, as its own user."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import asyncpg
import pytest

from dev.database import run
from dev.fleet import Fleet
from dev.stack import OWNER, Stack
from dev.system import System
from shared.database import grants, migrate
from shared.database.grants import Service

RIGHTS = """
    SELECT table_name, column_name, privilege_type FROM information_schema.column_privileges
    WHERE grantee = $1 AND table_schema = 'mdm'
    UNION SELECT table_name, NULL, privilege_type FROM information_schema.table_privileges
    WHERE grantee = $1 AND table_schema = 'mdm'
"""


@asynccontextmanager
async def connected(stack: Stack, user: str) -> AsyncIterator[asyncpg.Connection]:
    connection = await asyncpg.connect(stack.endpoints.database_users[user].replace("+asyncpg", ""))
    try:
        yield connection
    finally:
        await connection.close()


@pytest.mark.parametrize(
    ("service", "statement"),
    [
        ("firmware", "SELECT new_secret FROM mdm.rotations"),
        ("firmware", "SELECT old_secret FROM mdm.rotations"),
        ("firmware", "UPDATE mdm.rotations SET step = 'SWITCHED'"),
        ("firmware", "UPDATE mdm.devices SET secret_generation = 1"),
        ("firmware", "UPDATE mdm.devices SET last_generation = 1"),
        ("firmware", "UPDATE mdm.devices SET rotation_state = 'QUEUED'"),
        ("firmware", "DELETE FROM mdm.devices"),
        ("firmware", "UPDATE mdm.device_models SET commands = '{}'"),
        ("firmware", "SELECT FROM mdm.device_configs"),
        ("firmware", "INSERT INTO mdm.admin_accounts (name, role, author) VALUES ('eve', 'admin', 'eve')"),
        ("firmware", "UPDATE mdm.claims SET uses = 1000"),
        ("firmware", "INSERT INTO mdm.commands SELECT * FROM mdm.commands"),
        ("rotator", "SELECT data_key FROM mdm.core_dumps"),
        ("rotator", "SELECT data FROM mdm.core_dump_chunks"),
        ("rotator", "SELECT message FROM mdm.device_log"),
        ("rotator", "UPDATE mdm.devices SET enabled = false"),
        ("rotator", "INSERT INTO mdm.devices DEFAULT VALUES"),
        ("rotator", "UPDATE mdm.device_models SET image_sha256 = NULL"),
        ("rotator", "SELECT FROM mdm.firmware_images"),
        ("rotator", "DELETE FROM mdm.firmware_keys"),
        ("rotator", "SELECT FROM mdm.admin_accounts"),
        ("registry", "SELECT new_secret FROM mdm.rotations"),
        ("registry", "SELECT data_key FROM mdm.core_dumps"),
        ("registry", "INSERT INTO mdm.firmware_images SELECT * FROM mdm.firmware_images"),
        ("registry", "DELETE FROM mdm.firmware_keys"),
        ("registry", "UPDATE mdm.rollouts SET state = 'RUNNING'"),
        *(
            (service, statement)
            for service in grants.USERS
            for statement in (
                "UPDATE mdm.audit_log SET actor = 'somebody else'",
                "DELETE FROM mdm.audit_log",
                "TRUNCATE mdm.audit_log",
                "UPDATE mdm.admin_requests SET answer = '{}'",
                "DROP TABLE mdm.outbox",
                "CREATE TABLE mdm.hidden ()",
                "UPDATE mdm.alembic_version SET version_num = '0001'",
                "CREATE SCHEMA hidden",
                "CREATE ROLE eve SUPERUSER",
                "SELECT rolpassword FROM pg_authid",
                f"SET ROLE {OWNER}",
                f"SET ROLE {grants.BACKUP_USER}",
            )
        ),
    ],
)
async def test_a_services_user_may_not(stack: Stack, system: System, service: Service, statement: str) -> None:
    assert system.services
    async with connected(stack, grants.USERS[service]) as connection:
        with pytest.raises(asyncpg.InsufficientPrivilegeError):
            await connection.execute(statement)


async def test_the_column_that_lets_the_firmware_service_lock_devices_cannot_be_changed(
    stack: Stack, fleet: Fleet
) -> None:
    await fleet.device()
    async with connected(stack, grants.USERS["firmware"]) as connection:
        with pytest.raises(asyncpg.GeneratedAlwaysError):
            await connection.execute("UPDATE mdm.devices SET id = id + 1")
        with pytest.raises(asyncpg.ForeignKeyViolationError):
            await connection.execute("UPDATE mdm.devices SET id = DEFAULT")


async def test_a_migration_takes_back_what_was_granted_by_hand_and_gives_what_is_missing(
    stack: Stack, system: System
) -> None:
    assert system.services
    user = grants.USERS["rotator"]
    before = {tuple(row) for row in await run(stack, RIGHTS, user)}
    await run(stack, f"GRANT SELECT ON mdm.core_dumps TO {user}")
    await run(stack, f"GRANT UPDATE (message) ON mdm.device_log TO {user}")
    await run(stack, f"REVOKE DELETE ON mdm.rotation_slots FROM {user}")
    assert {tuple(row) for row in await run(stack, RIGHTS, user)} != before
    await asyncio.to_thread(migrate.upgrade, stack.endpoints.database_users[OWNER])
    assert {tuple(row) for row in await run(stack, RIGHTS, user)} == before


async def test_a_backup_acts_as_the_owner_who_is_no_superuser(stack: Stack, system: System) -> None:
    assert system.services
    query = "SELECT session_user, current_user, rolsuper FROM pg_roles WHERE rolname = current_user"
    async with connected(stack, grants.BACKUP_USER) as connection:
        [row] = await connection.fetch(query)
    assert tuple(row) == (grants.BACKUP_USER, OWNER, False)
