"""The database of a backup: all tables of one snapshot, exported and imported by COPY.

The text format of COPY is the same in all versions of PostgreSQL, so pg_dump of the server's version is not
needed.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterable
from contextlib import asynccontextmanager

import asyncpg
from pydantic import SecretStr
from sqlalchemy import make_url

from backup.archive import RecordedDevice
from shared.auth.keycloak import Identity
from shared.database import device_refs
from shared.database.tables import SCHEMA
from shared.errors import UnavailableError

GAP = 1000
"""How many generations are skipped: one issued after the backup must not be issued again (ADR 0002)."""
# Tables that are not empty in a new system.
_INCIDENTAL = (
    "instance",
    "connection_layers",
    "strays",
    "rotation_slots",
    "rotation_schedule",
    "outbox",
    "admin_requests",
    "audit_log",
    "events",
)
_COLUMNS = """
    SELECT c.relname AS name, array_agg(a.attname::text ORDER BY a.attnum) AS columns
    FROM pg_class c JOIN pg_attribute a ON a.attrelid = c.oid
    WHERE c.relnamespace = $1::regnamespace AND c.relkind = 'r' AND c.relname <> 'alembic_version'
        AND a.attnum > 0 AND NOT a.attisdropped AND a.attgenerated = ''
    GROUP BY c.relname ORDER BY c.relname
"""
_DEVICES = """
    SELECT m.code, d.key, d.enabled, d.secret_generation,
        EXISTS (SELECT FROM mdm.rotations r WHERE r.device_id = d.id AND r.outcome IS NULL) AS rotating
    FROM mdm.devices d JOIN mdm.device_models m ON m.id = d.model_id
    WHERE d.lifecycle = 'ACTIVE' ORDER BY d.id
"""
_FOREIGN_KEYS = """
    SELECT conrelid::regclass::text AS table, conname AS name, pg_get_constraintdef(oid) AS rule
    FROM pg_constraint WHERE contype = 'f' AND connamespace = $1::regnamespace
"""
# The kind of another user's process is hidden; processes of the server itself have no user.
_OTHERS = """
    SELECT count(*) FROM pg_stat_activity
    WHERE datname = current_database() AND pid <> pg_backend_pid() AND usesysid IS NOT NULL
"""
# An open rotation cannot continue: the device may have ended it since. The rotator's pending messages about it are
# dropped. The next offer names the generation that Keycloak holds, which settles the device's slots. The registry
# gives devices that sleep their whole time to come back, from its start on.
_SETTLE = """
    UPDATE mdm.devices SET rotation_state = 'QUEUED', rotation_slot = NULL WHERE rotation_state = 'PENDING';
    DELETE FROM mdm.rotations WHERE outcome IS NULL;
    DELETE FROM mdm.outbox WHERE service = 'rotator';
    UPDATE mdm.device_presence SET online = false, left_at = CASE WHEN online THEN now() ELSE left_at END,
        asleep_until = CASE WHEN wake_interval_s IS NOT NULL THEN now() END;
"""
_GENERATION = """
    UPDATE mdm.devices SET secret_generation = coalesce($2, secret_generation),
        last_generation = greatest(last_generation, $2) + $3
    WHERE key = $1
"""
# All that is known of a device that was added after the backup: model and key, from its name, and its secret.
_ADOPT = """
    WITH model AS (SELECT id, config_defaults FROM mdm.device_models WHERE code = $1),
    device AS (
        INSERT INTO mdm.devices (key, model_id, name, tags, enabled, lifecycle, request_id, config_version,
            secret_generation, last_generation)
        SELECT $2::text, id, 'newer than the backup', '{}', $3, 'ACTIVE', 'backup/' || $2::text, $5::bigint,
            $4::bigint, $4::bigint + $5::bigint
        FROM model
        ON CONFLICT (key) DO NOTHING RETURNING id
    ),
    config AS (
        INSERT INTO mdm.device_configs (device_id, version, overrides, document, author)
        SELECT device.id, $5::bigint, '{}', config_defaults, 'backup' FROM device, model
    )
    INSERT INTO mdm.device_presence (device_id) SELECT id FROM device RETURNING device_id
"""
_AUDIT = "INSERT INTO mdm.audit_log (actor, action, subject, after) VALUES ('backup', $1, 'fleet', $2::jsonb)"


@asynccontextmanager
async def connected(url: SecretStr) -> AsyncIterator[asyncpg.Connection]:
    """Open one connection for the block; errors of the database raise UnavailableError."""
    dsn = make_url(url.get_secret_value()).set(drivername="postgresql")
    try:
        connection = await asyncpg.connect(dsn.render_as_string(hide_password=False))
    except (OSError, asyncpg.PostgresError) as error:
        raise UnavailableError(f"the database cannot be reached: {error}") from error
    try:
        yield connection
    except (asyncpg.PostgresError, asyncpg.InterfaceError) as error:
        raise UnavailableError(f"the database reports an error: {error}") from error
    finally:
        await connection.close()


async def revision(connection: asyncpg.Connection) -> str | None:
    """Return the revision of the schema, or None if there is no schema."""
    if await connection.fetchval("SELECT to_regclass('mdm.alembic_version')") is None:
        return None
    found: str | None = await connection.fetchval("SELECT version_num FROM mdm.alembic_version")
    return found


async def columns(connection: asyncpg.Connection) -> dict[str, list[str]]:
    """Return the columns of each table, except computed ones."""
    return {row["name"]: row["columns"] for row in await connection.fetch(_COLUMNS, SCHEMA)}


async def sequences(connection: asyncpg.Connection) -> dict[str, int]:
    """Return the last number of each sequence that has issued one."""
    rows = await connection.fetch(
        "SELECT sequencename, last_value FROM pg_sequences WHERE schemaname = $1 AND last_value IS NOT NULL",
        SCHEMA,
    )
    return {row["sequencename"]: row["last_value"] for row in rows}


async def devices(connection: asyncpg.Connection) -> list[RecordedDevice]:
    """Return all devices that have an identity."""
    return [
        RecordedDevice(
            client_id=device_refs.client_id(row["code"], row["key"]),
            key=row["key"],
            enabled=row["enabled"],
            generation=row["secret_generation"],
            rotating=row["rotating"],
        )
        for row in await connection.fetch(_DEVICES)
    ]


async def images(connection: asyncpg.Connection) -> dict[str, int]:
    """Return the sizes in bytes of all images, by SHA-256."""
    rows = await connection.fetch("SELECT sha256, size_bytes FROM mdm.firmware_images ORDER BY sha256")
    return {row["sha256"]: row["size_bytes"] for row in rows}


async def size_bytes(connection: asyncpg.Connection) -> int:
    """Return roughly the number of bytes to copy."""
    query = "SELECT coalesce(sum(pg_table_size(oid)), 0) FROM pg_class WHERE relnamespace = $1::regnamespace"
    return int(await connection.fetchval(f"{query} AND relkind = 'r'", SCHEMA))


async def others(connection: asyncpg.Connection) -> int:
    """Return the number of other connections to the database: running services."""
    return int(await connection.fetchval(_OTHERS))


async def is_empty(connection: asyncpg.Connection) -> bool:
    """Return whether the database has nothing that a restore could destroy."""
    if await connection.fetchval("SELECT to_regnamespace($1)", SCHEMA) is None:
        return True
    for table in (await columns(connection)).keys() - set(_INCIDENTAL):
        if await connection.fetchval(f'SELECT EXISTS (SELECT FROM {SCHEMA}."{table}")'):  # noqa: S608 - its own name
            return False
    return True


async def drop(connection: asyncpg.Connection) -> None:
    """Drop the whole schema."""
    await connection.execute(f"DROP SCHEMA IF EXISTS {SCHEMA} CASCADE")


@asynccontextmanager
async def loading(connection: asyncpg.Connection, tables: Iterable[str]) -> AsyncIterator[None]:
    """Empty the tables, and disable their triggers and foreign keys while the block loads them."""
    every = [f'{SCHEMA}."{table}"' for table in tables]
    foreign_keys = await connection.fetch(_FOREIGN_KEYS, SCHEMA)
    for key in foreign_keys:
        await connection.execute(f'ALTER TABLE {key["table"]} DROP CONSTRAINT "{key["name"]}"')
    for table in every:
        await connection.execute(f"ALTER TABLE {table} DISABLE TRIGGER USER")
    await connection.execute(f"TRUNCATE {', '.join(every)}")
    yield
    for table in every:
        await connection.execute(f"ALTER TABLE {table} ENABLE TRIGGER USER")
    for key in foreign_keys:
        await connection.execute(f'ALTER TABLE {key["table"]} ADD CONSTRAINT "{key["name"]}" {key["rule"]}')


async def settle(
    connection: asyncpg.Connection, generations: dict[str, int | None], last_numbers: dict[str, int]
) -> None:
    """Adjust the loaded data to the secrets in force.

    `generations` are those of the devices, by key, None where there is no secret any more.
    """
    for sequence, last in last_numbers.items():
        await connection.execute("SELECT setval($1::regclass, $2)", f'{SCHEMA}."{sequence}"', last)
    await connection.execute(_SETTLE)
    rows = [(key, generation, GAP) for key, generation in generations.items()]
    await connection.executemany(_GENERATION, rows)


async def adopt(connection: asyncpg.Connection, stranger: Identity) -> bool:
    """Add a row for a device that was added after the backup and is in Keycloak; return False if it cannot.

    Without a row the registry would remove its identity. It has no tags, and the configuration of its model.
    """
    code, _, key = stranger.client_id.removeprefix(device_refs.PREFIX).rpartition("-")
    generation = max(1, stranger.generation)
    return await connection.fetchval(_ADOPT, code, key, stranger.enabled, generation, GAP) is not None


async def record(connection: asyncpg.Connection, action: str, facts: str) -> None:
    """Add an entry to the audit log; `facts` are JSON."""
    await connection.execute(_AUDIT, action, facts)
