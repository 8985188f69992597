"""The migration on a real PostgreSQL, and every invariant that it promises, tried."""

from __future__ import annotations

import asyncio
import json
import os
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from itertools import count
from uuid import uuid4

import asyncpg
import pytest
from alembic import command
from sqlalchemy import text
from sqlalchemy.exc import DBAPIError
from sqlalchemy.ext.asyncio import create_async_engine

from dev.stack import Stack
from dev.waiting import PATIENCE_S
from shared.database import grants, migrate, tables

COLUMNS = """
    SELECT table_name, column_name, udt_name, is_nullable, column_default, is_identity, identity_generation
    FROM information_schema.columns WHERE table_schema = 'mdm' AND table_name <> 'alembic_version'
"""
CONSTRAINTS = """
    SELECT conrelid::regclass::text, conname, contype::text, condeferrable, condeferred, pg_get_constraintdef(oid)
    FROM pg_constraint
    WHERE connamespace = 'mdm'::regnamespace AND conrelid IS DISTINCT FROM to_regclass('mdm.alembic_version')
"""
INDEXES = "SELECT tablename, indexdef FROM pg_indexes WHERE schemaname = 'mdm' AND tablename <> 'alembic_version'"
TABLES = "SELECT tablename FROM pg_tables WHERE schemaname = 'mdm'"
WAITING = """
    SELECT count(*) FROM pg_stat_activity, pg_sleep(0.02)
    WHERE datname = current_database() AND wait_event_type = 'Lock'
"""
OPEN_ROTATION = """
    INSERT INTO mdm.rotations (id, device_id, generation, old_generation, step, new_secret, old_secret, started_at,
        deadline_at) VALUES ($1, $2, $3, 1, 'OFFERED', 'new', 'old', now(), now())
"""
ENDED_ROTATION = """
    INSERT INTO mdm.rotations (id, device_id, generation, old_generation, step, outcome, started_at, deadline_at,
        ended_at) VALUES ($1, $2, $3, 1, 'SWITCHED', 'DONE', now(), now(), now())
"""
COMMAND = """
    INSERT INTO mdm.commands (id, batch_id, device_id, name, arguments, author, created_at, expires_at)
    VALUES ($1, $1, $2, 'reboot', '{}', 'test', now(), now())
"""


def dsn(url: str) -> str:
    return url.replace("+asyncpg", "")


@asynccontextmanager
async def new_database(stack: Stack) -> AsyncIterator[str]:
    """An empty database for the block, as a URL for SQLAlchemy."""
    url = stack.endpoints.database_url
    name = f"schema_{uuid4().hex}"
    server = await asyncpg.connect(dsn(url))
    try:
        await server.execute(f"CREATE DATABASE {name}")
        # The user is called mdm too, so that Alembic would take the schema for the default one, and find nothing.
        await server.execute(f"ALTER DATABASE {name} SET search_path = public")
        yield f"{url.rpartition('/')[0]}/{name}"
        await server.execute(f"DROP DATABASE {name} WITH (FORCE)")
    finally:
        await server.close()


@asynccontextmanager
async def connected(url: str) -> AsyncIterator[asyncpg.Connection]:
    connection = await asyncpg.connect(dsn(url))
    try:
        yield connection
    finally:
        await connection.close()


async def upgrade_in_a_process(url: str) -> str:
    """Run the migration as a service's container does, and return what it says when it fails."""
    process = await asyncio.create_subprocess_exec(
        sys.executable,
        "-m",
        "shared.database.migrate",
        env={**os.environ, "MDM_DATABASE_URL": url},
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.STDOUT,
    )
    said, _ = await process.communicate()
    return said.decode() if process.returncode else ""


async def facts(url: str) -> dict[str, set[tuple[object, ...]]]:
    """What PostgreSQL itself says of the schema."""
    async with connected(url) as connection:
        return {
            query: {tuple(row.values()) for row in await connection.fetch(query)}
            for query in (COLUMNS, CONSTRAINTS, INDEXES)
        }


@pytest.fixture(scope="module")
async def database_url(stack: Stack) -> AsyncIterator[str]:
    async with new_database(stack) as url:
        await asyncio.to_thread(migrate.upgrade, url)
        yield url


@dataclass
class Rows:
    """Makes rows that are right, in a transaction that is rolled back after the test."""

    connection: asyncpg.Connection
    names: count[int] = field(default_factory=lambda: count(1))

    async def run(self, statement: str, *values: object) -> None:
        await self.connection.execute(statement, *values)

    async def model(self, code: str = "a_model") -> int:
        row = await self.connection.fetchrow(
            "INSERT INTO mdm.device_models (code, name, chip, slot_size_bytes, config_defaults)"
            " VALUES ($1, '', 'esp32', 1, '{}') RETURNING id",
            code,
        )
        assert row is not None
        return int(row["id"])

    async def device(self, model_id: int, *, key: str | None = None, config: bool = True) -> int:
        number = next(self.names)
        row = await self.connection.fetchrow(
            "INSERT INTO mdm.devices (key, model_id, name, tags, lifecycle, request_id, config_version)"
            " VALUES ($1, $2, '', '{}', 'ACTIVE', $3, 1) RETURNING id",
            f"key{number:05}" if key is None else key,
            model_id,
            f"request {number}",
        )
        assert row is not None
        device_id = int(row["id"])
        if config:
            await self.run(
                "INSERT INTO mdm.device_configs (device_id, version, overrides, document, author)"
                " VALUES ($1, 1, '{}', '{}', 'test')",
                device_id,
            )
        return device_id


@pytest.fixture
async def rows(database_url: str) -> AsyncIterator[Rows]:
    async with connected(database_url) as connection:
        transaction = connection.transaction()
        await transaction.start()
        yield Rows(connection)
        await transaction.rollback()


@asynccontextmanager
async def refused(
    by: str, error: type[asyncpg.PostgresError] = asyncpg.CheckViolationError
) -> AsyncIterator[None]:
    """The block breaks the rule of this name."""
    with pytest.raises(error) as caught:
        yield
    assert type(caught.value) is error
    assert by in (caught.value.constraint_name, caught.value.args[0])


async def test_the_migration_makes_what_the_models_say(database_url: str) -> None:
    await asyncio.to_thread(command.check, migrate.config(database_url))


async def test_the_migration_makes_the_same_constraints_defaults_and_indexes_as_the_models(
    stack: Stack, database_url: str
) -> None:
    async with new_database(stack) as other_url:
        engine = create_async_engine(other_url)
        async with engine.begin() as connection:
            await connection.execute(text(f"CREATE SCHEMA {tables.SCHEMA}"))
            await connection.run_sync(tables.Base.metadata.create_all)
        await engine.dispose()

        assert await facts(database_url) == await facts(other_url)


async def test_a_second_upgrade_changes_nothing(database_url: str) -> None:
    before = await facts(database_url)
    await asyncio.to_thread(migrate.upgrade, database_url)

    assert await facts(database_url) == before
    async with connected(database_url) as connection:
        assert [row["slot"] for row in await connection.fetch("SELECT slot FROM mdm.rotation_slots")] == [0]


async def test_the_migration_can_be_undone_and_done_again(stack: Stack) -> None:
    async with new_database(stack) as url:
        await asyncio.to_thread(migrate.upgrade, url)
        made = await facts(url)
        await asyncio.to_thread(command.downgrade, migrate.config(url), "base")
        async with connected(url) as connection:
            assert [row["tablename"] for row in await connection.fetch(TABLES)] == ["alembic_version"]
        await asyncio.to_thread(migrate.upgrade, url)

        assert await facts(url) == made


BEFORE_IMAGES_OF_MODELS = """
    INSERT INTO mdm.device_models (code, name, chip, slot_size_bytes, config_defaults)
        SELECT code, '', 'esp32', 1, '{}' FROM unnest(ARRAY['one', 'other']) AS code;
    INSERT INTO mdm.devices (key, model_id, name, tags, lifecycle, request_id, config_version)
        SELECT 'abcdefg' || number, 1, '', '{}', 'ACTIVE', number, 1 FROM generate_series(1, 3) AS number;
    INSERT INTO mdm.device_configs (device_id, version, overrides, document, author)
        SELECT id, 1, '{}', '{}', 'test' FROM mdm.devices;
    INSERT INTO mdm.firmware_images (sha256, model_id, version, project, chip, size_bytes, secure_version,
            idf_version, elf_sha256, uploaded_by)
        SELECT repeat(digit, 64), 1, digit, '', 'esp32', 1, 0, '', repeat(digit, 64), 'test'
        FROM unnest(ARRAY['a', 'b']) AS digit;
    UPDATE mdm.device_models SET image_sha256 = repeat('a', 64) WHERE code = 'one';
    INSERT INTO mdm.rollouts (model_id, sha256, version, tags, percent, plan, waves, state, author, ended_at)
        VALUES (1, repeat('b', 64), 'b', '{}', 100, '{}', 1, 'RUNNING', 'test', NULL),
               (1, repeat('a', 64), 'a', '{}', 100, '{}', 1, 'COMPLETED', 'test', now()),
               (1, NULL, 'c', '{}', 100, '{}', 1, 'ABORTED', 'test', now());
    INSERT INTO mdm.firmware_deliveries (device_id, sha256, stage)
        VALUES (1, repeat('a', 64), 'confirmed'), (2, repeat('b', 64), 'rebooting'),
            (3, repeat('c', 64), 'failed');
"""
SINCE_IMAGES_OF_MODELS = """
    INSERT INTO mdm.firmware_images (sha256, model_id, version, project, chip, size_bytes, secure_version,
            idf_version, uploaded_by)
        VALUES (repeat('a', 64), 2, 'its own', '', 'esp32', 1, 0, '', 'test'),
               (repeat('d', 64), 2, 'no ELF', '', 'esp32', 1, 0, '', 'test');
    UPDATE mdm.device_models SET image_sha256 = repeat('a', 64) WHERE code = 'other';
    INSERT INTO mdm.rollouts (model_id, sha256, version, tags, percent, plan, waves, state, author, ended_at)
        VALUES (2, repeat('a', 64), 'its own', '{}', 100, '{}', 1, 'COMPLETED', 'test', now());
    UPDATE mdm.firmware_deliveries SET stage = 'fell_back', fallbacks = 2 WHERE device_id = 1;
    INSERT INTO mdm.firmware_deliveries (device_id, sha256, stage) VALUES (3, repeat('b', 64), 'withheld');
"""
IMAGES = "SELECT model_id, left(sha256, 1), version FROM mdm.firmware_images ORDER BY 1, 2"
RELEASED = "SELECT code, left(image_sha256, 1) FROM mdm.device_models ORDER BY id"
OF_ROLLOUTS = "SELECT left(sha256, 1) FROM mdm.rollouts ORDER BY id"
STAGES = "SELECT device_id, left(sha256, 1), stage FROM mdm.firmware_deliveries ORDER BY 1, 2"


async def test_images_rollouts_and_deliveries_outlive_the_change_to_images_of_models_and_back(
    stack: Stack,
) -> None:
    async def rows(url: str) -> list[list[tuple[object, ...]]]:
        async with connected(url) as connection:
            return [
                [tuple(row.values()) for row in await connection.fetch(query)]
                for query in (IMAGES, RELEASED, OF_ROLLOUTS, STAGES)
            ]

    async with new_database(stack) as url:
        await asyncio.to_thread(migrate.upgrade, url, "0014")
        async with connected(url) as connection:
            await connection.execute(BEFORE_IMAGES_OF_MODELS)
        before = await rows(url)
        await asyncio.to_thread(migrate.upgrade, url)
        assert await rows(url) == before
        async with connected(url) as connection:
            await connection.execute(SINCE_IMAGES_OF_MODELS)
        await asyncio.to_thread(command.downgrade, migrate.config(url), "0014")
        images, released, rollouts, stages = await rows(url)
        assert images == [*before[0], (2, "d", "no ELF")]
        assert released == before[1]
        assert rollouts == [*before[2], (None,)]
        assert stages == before[3]
        await asyncio.to_thread(migrate.upgrade, url)


VITALS = """
    INSERT INTO mdm.device_vitals (device_id, hour, version, vitals) VALUES
        (1, '2026-11-30 12:00Z', '1.0.0',
            '{"uptime_s": [2, 7, 20, 13, 13, 300], "t": [1, -0.5, -0.5, -0.5, -0.5, 9]}'),
        (2, '2026-11-30 11:00Z', NULL, '{"t": [3, 1e-300, 0.75, 0.75, 0, 5]}')
"""


async def test_vitals_outlive_the_change_of_their_layout_and_back(stack: Stack) -> None:
    async with new_database(stack) as url:
        await asyncio.to_thread(migrate.upgrade, url, "0023")
        async with connected(url) as connection:
            await connection.execute(BEFORE_IMAGES_OF_MODELS.partition("INSERT INTO mdm.firmware_images")[0])
            await connection.execute(VITALS)
        await asyncio.to_thread(migrate.upgrade, url)
        async with connected(url) as connection:
            found = await connection.fetch("SELECT version, names, numbers FROM mdm.device_vitals")
        assert [tuple(row) for row in found] == [
            (None, "t", [3, 0, 0.25, 0.75, 0, 5]),
            ("1.0.0", "t uptime_s", [1, -0.5, -0.5, -0.5, -0.5, 9, 2, 7, 10, 13, 13, 300]),
        ]
        await asyncio.to_thread(command.downgrade, migrate.config(url), "0023")
        async with connected(url) as connection:
            (row, _) = await connection.fetch("SELECT vitals FROM mdm.device_vitals ORDER BY device_id")
        assert json.loads(row["vitals"])["uptime_s"] == [2, 7, 20, 13, 13, 300]
        await asyncio.to_thread(migrate.upgrade, url)


async def test_a_schema_of_before_is_looked_at_again_and_sealed_settings_keep_a_downgrade_away(
    stack: Stack,
) -> None:
    insert = """INSERT INTO mdm.device_models (code, name, chip, slot_size_bytes, config_schema, config_defaults)
        VALUES ($1, '', '', 1, $2, $3)"""
    hides = '{"properties": {"a": {"writeOnly": true}}}'
    async with new_database(stack) as url:
        await asyncio.to_thread(migrate.upgrade, url, "0015")
        async with connected(url) as connection:
            await connection.execute(insert, "hides", hides, "{}")
            await connection.execute(insert, "shows", '{"properties": {"a": {}}}', "{}")
        await asyncio.to_thread(migrate.upgrade, url)
        async with connected(url) as connection:
            found = await connection.fetch("SELECT code, sealed FROM mdm.device_models ORDER BY 1")
            assert [tuple(row) for row in found] == [("hides", None), ("shows", "[]")]
            await connection.execute(insert, "sealed", hides, '{"a": "(sealed 3f9c2a71b04e gAAAAA)"}')
        with pytest.raises(DBAPIError, match=r"device_models\.config_defaults has sealed settings"):
            await asyncio.to_thread(command.downgrade, migrate.config(url), "0015")
        async with connected(url) as connection:
            await connection.execute("DELETE FROM mdm.device_models WHERE code = 'sealed'")
        await asyncio.to_thread(command.downgrade, migrate.config(url), "0015")


async def test_services_that_start_at_once_migrate_once(stack: Stack) -> None:
    async with new_database(stack) as url, connected(url) as connection, asyncio.timeout(PATIENCE_S):
        await connection.execute("SELECT pg_advisory_lock(hashtext('mdm:migrations'))")
        async with asyncio.TaskGroup() as tasks:
            upgrades = [tasks.create_task(upgrade_in_a_process(url)) for _ in range(3)]
            while await connection.fetchval(WAITING) < len(upgrades):
                assert not any(upgrade.done() for upgrade in upgrades)
            await connection.execute("SELECT pg_advisory_unlock(hashtext('mdm:migrations'))")

        assert [upgrade.result() for upgrade in upgrades] == ["", "", ""]
        names = {row["tablename"] for row in await connection.fetch(TABLES)}
        assert names == {table.name for table in tables.Base.metadata.tables.values()} | {"alembic_version"}


@pytest.mark.parametrize("code", ["", "A", "a-b", "a b", "a\n", "é", "a" * 51])
async def test_a_model_code_is_made_of_what_a_client_id_may_have(rows: Rows, code: str) -> None:
    async with refused("device_models_code_check"):
        await rows.model(code)


async def test_a_model_code_is_given_once(rows: Rows) -> None:
    await rows.model("twice")
    async with refused("device_models_code_key", asyncpg.UniqueViolationError):
        await rows.model("twice")


async def test_a_model_code_cannot_be_changed(rows: Rows) -> None:
    model_id = await rows.model("first")
    await rows.run("UPDATE mdm.device_models SET code = 'first', name = 'new' WHERE id = $1", model_id)
    async with refused("device_models.code can not be changed", asyncpg.IntegrityConstraintViolationError):
        await rows.run("UPDATE mdm.device_models SET code = 'second' WHERE id = $1", model_id)


async def test_a_slot_of_flash_has_a_size(rows: Rows) -> None:
    model_id = await rows.model()
    async with refused("device_models_slot_size_check"):
        await rows.run("UPDATE mdm.device_models SET slot_size_bytes = 0 WHERE id = $1", model_id)


@pytest.mark.parametrize("key", ["", "abcdefg", "abcdefghi", "ABCDEFGH", "abcdefg-", "abcdefg\n", "abcdefgé"])
async def test_a_device_key_is_eight_letters_and_digits(rows: Rows, key: str) -> None:
    model_id = await rows.model()
    async with refused("devices_key_check"):
        await rows.device(model_id, key=key)


async def test_a_device_key_is_given_once_over_all_models(rows: Rows) -> None:
    await rows.device(await rows.model("first"), key="abcdefgh")
    second = await rows.model("second")
    async with refused("devices_key_key", asyncpg.UniqueViolationError):
        await rows.device(second, key="abcdefgh")


@pytest.mark.parametrize("change", ["key = 'zzzzzzzz'", "model_id = $2"])
async def test_what_a_client_id_is_made_of_cannot_be_changed(rows: Rows, change: str) -> None:
    device_id = await rows.device(await rows.model("first"))
    values = [await rows.model("second")] if "$2" in change else []
    await rows.run("UPDATE mdm.devices SET key = key, model_id = model_id, name = 'new' WHERE id = $1", device_id)
    async with refused(
        "devices.key and devices.model_id can not be changed", asyncpg.IntegrityConstraintViolationError
    ):
        await rows.run(f"UPDATE mdm.devices SET {change} WHERE id = $1", device_id, *values)  # noqa: S608


@pytest.mark.parametrize(
    ("change", "rule"),
    [
        ("rotation_state = 'PENDING'", "devices_slot_when_pending_check"),
        ("rotation_slot = 0", "devices_slot_when_pending_check"),
        ("rotation_state = 'QUEUED', rotation_slot = 0", "devices_slot_when_pending_check"),
        ("rotation_state = 'TIMEOUT'", "devices_retry_after_timeout_check"),
        ("rotation_retry_at = now()", "devices_retry_after_timeout_check"),
        ("secret_generation = 2", "devices_generation_check"),
        ("secret_generation = 0", "devices_generation_check"),
        ("last_generation = 0", "devices_generation_check"),
        ("rotation_state = 'WAITING'", "devices_rotation_state_check"),
        ("lifecycle = 'LOST'", "devices_lifecycle_check"),
    ],
)
async def test_a_state_that_contradicts_itself_is_refused(rows: Rows, change: str, rule: str) -> None:
    device_id = await rows.device(await rows.model())
    async with refused(rule):
        await rows.run(f"UPDATE mdm.devices SET {change} WHERE id = $1", device_id)  # noqa: S608


@pytest.mark.parametrize(
    "change",
    [
        "rotation_state = 'PENDING', rotation_slot = 0",
        "rotation_state = 'TIMEOUT', rotation_retry_at = now()",
        "rotation_state = 'QUEUED'",
        "secret_generation = 2, last_generation = 3",
    ],
)
async def test_a_state_of_the_protocol_is_taken(rows: Rows, change: str) -> None:
    device_id = await rows.device(await rows.model())
    await rows.run(f"UPDATE mdm.devices SET {change} WHERE id = $1", device_id)  # noqa: S608


async def test_two_devices_cannot_rotate_in_one_slot(rows: Rows) -> None:
    model_id = await rows.model()
    first, second = await rows.device(model_id), await rows.device(model_id)
    pending = "UPDATE mdm.devices SET rotation_state = 'PENDING', rotation_slot = 0 WHERE id = $1"
    await rows.run(pending, first)
    async with refused("devices_rotation_slot_key", asyncpg.UniqueViolationError):
        await rows.run(pending, second)


async def test_a_device_cannot_rotate_in_a_slot_that_there_is_not(rows: Rows) -> None:
    device_id = await rows.device(await rows.model())
    pending = "UPDATE mdm.devices SET rotation_state = 'PENDING', rotation_slot = 1 WHERE id = $1"
    async with (
        refused("devices_rotation_slot_fkey", asyncpg.ForeignKeyViolationError),
        rows.connection.transaction(),
    ):
        await rows.run(pending, device_id)
    await rows.run("INSERT INTO mdm.rotation_slots (slot) VALUES (1)")
    await rows.run(pending, device_id)


async def test_a_slot_in_use_cannot_be_taken_away(rows: Rows) -> None:
    device_id = await rows.device(await rows.model())
    await rows.run("UPDATE mdm.devices SET rotation_state = 'PENDING', rotation_slot = 0 WHERE id = $1", device_id)
    async with refused("devices_rotation_slot_fkey", asyncpg.ForeignKeyViolationError):
        await rows.run("DELETE FROM mdm.rotation_slots")


async def test_a_device_has_one_open_rotation(rows: Rows) -> None:
    model_id = await rows.model()
    device_id, other = await rows.device(model_id), await rows.device(model_id)
    await rows.run(ENDED_ROTATION, uuid4(), device_id, 2)
    await rows.run(OPEN_ROTATION, uuid4(), device_id, 3)
    await rows.run(OPEN_ROTATION, uuid4(), other, 3)
    async with refused("rotations_open_key", asyncpg.UniqueViolationError):
        await rows.run(OPEN_ROTATION, uuid4(), device_id, 4)


async def test_no_generation_is_offered_to_a_device_twice(rows: Rows) -> None:
    device_id = await rows.device(await rows.model())
    await rows.run(ENDED_ROTATION, uuid4(), device_id, 2)
    async with refused("rotations_device_id_generation_key", asyncpg.UniqueViolationError):
        await rows.run(OPEN_ROTATION, uuid4(), device_id, 2)


@pytest.mark.parametrize(
    ("change", "rule"),
    [
        ("new_secret = NULL", "rotations_secrets_only_while_open_check"),
        ("new_secret = NULL, old_secret = NULL", "rotations_secrets_only_while_open_check"),
        ("outcome = 'DONE', ended_at = now()", "rotations_secrets_only_while_open_check"),
        ("outcome = 'DONE', ended_at = now(), new_secret = NULL", "rotations_secrets_only_while_open_check"),
        ("outcome = 'DONE', ended_at = now(), old_secret = NULL", "rotations_secrets_only_while_open_check"),
        ("outcome = 'DONE', new_secret = NULL, old_secret = NULL", "rotations_ended_check"),
        ("ended_at = now()", "rotations_ended_check"),
        ("outcome = 'LOST', ended_at = now(), new_secret = NULL, old_secret = NULL", "rotations_outcome_check"),
        ("step = 'DONE'", "rotations_step_check"),
    ],
)
async def test_a_rotation_has_its_secrets_exactly_while_it_is_open(rows: Rows, change: str, rule: str) -> None:
    device_id, rotation_id = await rows.device(await rows.model()), uuid4()
    await rows.run(OPEN_ROTATION, rotation_id, device_id, 2)
    async with refused(rule):
        await rows.run(f"UPDATE mdm.rotations SET {change} WHERE id = $1", rotation_id)  # noqa: S608


async def test_an_open_rotation_can_end(rows: Rows) -> None:
    device_id, rotation_id = await rows.device(await rows.model()), uuid4()
    await rows.run(OPEN_ROTATION, rotation_id, device_id, 2)
    await rows.run(
        "UPDATE mdm.rotations SET outcome = 'TIMEOUT', ended_at = now(), new_secret = NULL, old_secret = NULL"
        " WHERE id = $1",
        rotation_id,
    )


IMAGE = """
    INSERT INTO mdm.firmware_images (sha256, model_id, version, project, chip, size_bytes, secure_version,
        idf_version, elf_sha256, uploaded_by)
    VALUES (repeat('a', 64), $1, '1.0', 'p', 'esp32', 1024, 0, 'v5', repeat('b', 64), 'somebody')
"""
IMAGE_KEY = """
    INSERT INTO mdm.firmware_keys (model_id, fingerprint, public_key, author) VALUES ($1, $2, $3, 'somebody')
"""


@pytest.mark.parametrize(
    ("change", "rule"),
    [
        ("sha256 = repeat('A', 64)", "firmware_images_sha256_check"),
        (r"signature = '\x00'", "firmware_images_signature_check"),
        (r"signature = ''", "firmware_images_signature_check"),
    ],
)
async def test_an_image_that_cannot_be_is_refused(rows: Rows, change: str, rule: str) -> None:
    await rows.run(IMAGE, await rows.model())
    async with refused(rule):
        await rows.run(f"UPDATE mdm.firmware_images SET {change}")  # noqa: S608


@pytest.mark.parametrize("length", [31, 33])
async def test_a_key_that_cannot_be_is_refused(rows: Rows, length: int) -> None:
    async with refused("firmware_keys_public_key_check"):
        await rows.run(IMAGE_KEY, await rows.model(), "f", bytes(length))


async def test_a_model_trusts_a_key_once_and_its_keys_go_with_it(rows: Rows) -> None:
    model_id, other_id = await rows.model(), await rows.model("other")
    for one in (model_id, other_id):
        await rows.run(IMAGE_KEY, one, "f", bytes(32))
    await rows.run("DELETE FROM mdm.device_models WHERE id = $1", other_id)
    async with refused("firmware_keys_pkey", asyncpg.UniqueViolationError):
        await rows.run(IMAGE_KEY, model_id, "f", bytes(32))


CLAIM = """
    INSERT INTO mdm.claims (id, model_id, tags, uses, needs_approval, expires_at, request_id, author)
    VALUES ('claim-aaaaaaaa', $1, '{}', 1, false, now() + interval '1 day', 'request', 'somebody')
"""
CLAIM_REQUEST = """
    INSERT INTO mdm.claim_requests (uid, claim_id, public_key, state)
    VALUES ('a0b1c2d3e4f5', 'claim-aaaaaaaa', 'key', 'pending')
"""


@pytest.mark.parametrize(
    ("change", "rule"),
    [
        ("id = 'claim-AAAAAAAA'", "claims_id_check"),
        ("id = 'iotdevice-a-aaaaaaaa'", "claims_id_check"),
        ("uses = 0", "claims_uses_check"),
        ("expires_at = created_at", "claims_expires_check"),
    ],
)
async def test_a_claim_that_cannot_be_is_refused(rows: Rows, change: str, rule: str) -> None:
    await rows.run(CLAIM, await rows.model())
    async with refused(rule):
        await rows.run(f"UPDATE mdm.claims SET {change}")  # noqa: S608


@pytest.mark.parametrize(
    ("change", "rule"),
    [
        ("uid = 'A0B1C2D3E4F5'", "claim_requests_uid_check"),
        ("uid = 'a0b1c2d3e4f5a'", "claim_requests_uid_check"),
        ("state = 'lost'", "claim_requests_state_check"),
        ("device_id = $1, granted_at = now()", "claim_requests_device_when_granted_check"),
        ("state = 'granted', device_id = $1", "claim_requests_granted_at_check"),
        ("state = 'granted', granted_at = now()", "claim_requests_granted_at_check"),
    ],
)
async def test_a_claim_request_that_contradicts_itself_is_refused(rows: Rows, change: str, rule: str) -> None:
    model_id = await rows.model()
    device_id = await rows.device(model_id)
    await rows.run(CLAIM, model_id)
    await rows.run(CLAIM_REQUEST)
    async with refused(rule):
        values = [device_id] if "$1" in change else []
        await rows.run(f"UPDATE mdm.claim_requests SET {change}", *values)  # noqa: S608


async def test_a_machine_asks_once_over_all_claims_and_goes_with_its_device(rows: Rows) -> None:
    model_id = await rows.model()
    device_id = await rows.device(model_id)
    await rows.run(CLAIM, model_id)
    await rows.run(CLAIM_REQUEST)
    granted = "UPDATE mdm.claim_requests SET state = 'granted', device_id = $1, granted_at = now()"
    await rows.run(granted, device_id)
    async with refused("claim_requests_pkey", asyncpg.UniqueViolationError), rows.connection.transaction():
        await rows.run(CLAIM_REQUEST)
    await rows.run("DELETE FROM mdm.devices WHERE id = $1", device_id)
    assert await rows.connection.fetchval("SELECT count(*) FROM mdm.claim_requests") == 0


@pytest.mark.parametrize(
    "statement",
    [
        "UPDATE mdm.audit_log SET actor = 'nobody'",
        "DELETE FROM mdm.audit_log",
        "DELETE FROM mdm.audit_log WHERE false",
        "TRUNCATE mdm.audit_log",
    ],
)
async def test_what_was_noted_cannot_be_changed_or_removed(rows: Rows, statement: str) -> None:
    await rows.run("INSERT INTO mdm.audit_log (actor, action, subject) VALUES ('somebody', 'did', 'this')")
    async with refused("audit_log rows can only be added", asyncpg.IntegrityConstraintViolationError):
        await rows.run(statement)


async def test_a_device_without_the_configuration_that_it_should_have_is_refused_at_commit(
    database_url: str,
) -> None:
    async with connected(database_url) as connection:
        rows, transaction = Rows(connection), connection.transaction()
        await transaction.start()
        await rows.device(await rows.model(f"m{uuid4().hex}"), config=False)
        async with refused("devices_config_version_fkey", asyncpg.ForeignKeyViolationError):
            await transaction.commit()


async def test_a_configuration_in_use_cannot_be_removed(rows: Rows) -> None:
    device_id = await rows.device(await rows.model())
    await rows.run("SET CONSTRAINTS ALL IMMEDIATE")
    async with refused("devices_config_version_fkey", asyncpg.ForeignKeyViolationError):
        await rows.run("DELETE FROM mdm.device_configs WHERE device_id = $1", device_id)


async def test_a_device_that_is_removed_takes_its_rows_with_it(rows: Rows) -> None:
    device_id = await rows.device(await rows.model())
    await rows.run(OPEN_ROTATION, uuid4(), device_id, 2)
    await rows.run("INSERT INTO mdm.device_presence (device_id) VALUES ($1)", device_id)
    await rows.run(COMMAND, uuid4(), device_id)
    await rows.run("DELETE FROM mdm.devices WHERE id = $1", device_id)
    await rows.run("SET CONSTRAINTS ALL IMMEDIATE")

    for table in ("rotations", "device_presence", "device_configs", "commands"):
        query = f"SELECT count(*) FROM mdm.{table} WHERE device_id = $1"  # noqa: S608
        assert await rows.connection.fetchval(query, device_id) == 0


async def rollout(rows: Rows, device_id: int, model_id: int, sha256: str) -> int:
    """A running rollout of one device."""
    [row] = await rows.connection.fetch(
        """INSERT INTO mdm.rollouts (model_id, sha256, version, tags, percent, plan, waves, state, author)
        VALUES ($1, $2, '1.0.0', '{}', 100, '{}', 1, 'RUNNING', 'test') RETURNING id""",
        model_id,
        sha256,
    )
    await rows.run(
        "INSERT INTO mdm.rollout_devices (rollout_id, device_id, wave, state, live) "
        "VALUES ($1, $2, 1, 'WAITING', true)",
        row["id"],
        device_id,
    )
    return int(row["id"])


async def image_of(rows: Rows, model_id: int) -> str:
    """An image of a model."""
    sha256 = uuid4().hex * 2
    await rows.run(
        """INSERT INTO mdm.firmware_images (sha256, model_id, version, project, chip, size_bytes, secure_version,
        idf_version, elf_sha256, uploaded_by) VALUES ($1, $2, '1.0.0', 'p', 'esp32', 1, 0, 'v', 'e', 'test')""",
        sha256,
        model_id,
    )
    return sha256


async def test_a_device_is_in_one_open_rollout_at_most(rows: Rows) -> None:
    model_id = await rows.model()
    device_id, sha256 = await rows.device(model_id), await image_of(rows, model_id)
    first = await rollout(rows, device_id, model_id, sha256)
    async with (
        refused("rollout_devices_live_key", asyncpg.UniqueViolationError),
        rows.connection.transaction(),
    ):
        await rollout(rows, device_id, model_id, sha256)
    await rows.run("UPDATE mdm.rollout_devices SET live = false WHERE rollout_id = $1", first)
    await rollout(rows, device_id, model_id, sha256)


@pytest.mark.parametrize(
    ("change", "rule"),
    [
        ("state = 'STUCK'", "rollouts_state_check"),
        ("state = 'ABORTED'", "rollouts_ended_check"),
        ("ended_at = now()", "rollouts_ended_check"),
        ("state = 'HALTED'", "rollouts_reason_when_halted_check"),
        ("sha256 = NULL", "rollouts_image_while_open_check"),
        ("in_force = false", "rollouts_in_force_while_open_check"),
        ("wave = 2", "rollouts_wave_check"),
        ("percent = 0", "rollouts_percent_check"),
    ],
)
async def test_a_rollout_that_contradicts_itself_is_refused(rows: Rows, change: str, rule: str) -> None:
    model_id = await rows.model()
    rollout_id = await rollout(rows, await rows.device(model_id), model_id, await image_of(rows, model_id))
    async with refused(rule):
        await rows.run(f"UPDATE mdm.rollouts SET {change} WHERE id = $1", rollout_id)  # noqa: S608


async def test_an_image_goes_only_when_its_rollouts_have_ended(rows: Rows) -> None:
    model_id = await rows.model()
    sha256 = await image_of(rows, model_id)
    rollout_id = await rollout(rows, await rows.device(model_id), model_id, sha256)
    in_use = refused("rollouts_sha256_fkey", asyncpg.ForeignKeyViolationError)
    async with in_use, rows.connection.transaction():
        await rows.run("DELETE FROM mdm.firmware_images WHERE sha256 = $1", sha256)
    ended = "UPDATE mdm.rollouts SET state = 'ABORTED', ended_at = now(), sha256 = NULL WHERE id = $1"
    await rows.run(ended, rollout_id)
    await rows.run("DELETE FROM mdm.firmware_images WHERE sha256 = $1", sha256)
    assert await rows.connection.fetchval("SELECT version FROM mdm.rollouts WHERE id = $1", rollout_id) == "1.0.0"


@pytest.mark.parametrize(
    ("change", "rule"),
    [("state = 'LOST'", "rollout_devices_state_check"), ("wave = -1", "rollout_devices_wave_check")],
)
async def test_a_device_in_a_rollout_stands_somehow_in_a_wave(rows: Rows, change: str, rule: str) -> None:
    model_id = await rows.model()
    rollout_id = await rollout(rows, await rows.device(model_id), model_id, await image_of(rows, model_id))
    async with refused(rule):
        await rows.run(f"UPDATE mdm.rollout_devices SET {change} WHERE rollout_id = $1", rollout_id)  # noqa: S608


async def test_an_owner_whose_services_all_log_in_as_him_needs_no_users_of_theirs(
    stack: Stack, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(grants, "USERS", {"registry": "nobody_has_made_this_user"})
    async with new_database(stack) as url:
        await asyncio.to_thread(migrate.upgrade, url)
        async with connected(url) as connection:
            assert await connection.fetch("SELECT FROM mdm.devices FOR UPDATE") == []
            assert not await connection.fetch(
                "SELECT FROM information_schema.table_privileges WHERE table_schema = 'mdm' AND grantee <> grantor"
            )
