"""Makes a backup: the database in one snapshot, then Keycloak's secrets, the broker's accounts and the images.

Keycloak comes after the snapshot. In the other order, a rotation that ends in between would be in the backup as
done, with the secret that the device has just discarded. In this order the snapshot may have the rotation as open,
or the device with a generation below Keycloak's; the restore corrects both, as Keycloak takes precedence.
"""

from __future__ import annotations

import os
import secrets
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import BinaryIO

import asyncpg
from pydantic import AwareDatetime, SecretStr

from backup import archive, tables
from backup.archive import Collector, Manifest, Secret, Secrets, Writer
from backup.sealed import PIECE_BYTES
from shared import crypto
from shared.auth import keycloak
from shared.auth.keycloak import Keycloak
from shared.database.tables import SCHEMA
from shared.errors import InvalidInputError, NotFoundError
from shared.protocol.admin import Result
from shared.runtime.settings import BackupSettings
from shared.storage.images import Store

Watch = Callable[[str, int, int], None]
"""Callback for progress: the current step, the bytes done and their total, which may be an estimate."""


class Made(Result):
    """The contents of a backup, and what it lacks because the system lacked it."""

    created_at: AwareDatetime
    revision: str
    devices: int
    images: int
    has_broker: bool
    without_secret: list[str]
    missing_images: list[str]


async def write(settings: BackupSettings, target: Path, passphrase: SecretStr, *, watch: Watch) -> Made:
    """Write a backup to a new file with mode 0600 and verify it; on an error leave no file."""
    with _new_file(target) as file:
        made = await _make(settings, Writer.on(file, passphrase), watch)
        whole = file.tell()
        for _ in archive.pieces(file, passphrase):
            watch("reading it again", file.tell(), whole)
    async with tables.connected(settings.database_url) as connection:
        await tables.record(connection, "backup.make", made.model_dump_json())
    return made


async def _make(settings: BackupSettings, writer: Writer, watch: Watch) -> Made:
    store = Store(settings.assets_url)
    broker = _accounts_file(settings)
    async with tables.connected(settings.database_url) as connection, keycloak.connected(settings) as clients:
        async with connection.transaction(isolation="repeatable_read", readonly=True):
            manifest, missing = await _manifest(settings, connection, store, has_broker=broker is not None)
            writer.add(archive.MANIFEST, manifest.model_dump_json().encode())
            await _copy_tables(connection, manifest, writer, watch)
        saved = await _secrets(clients, manifest)
        saved.recovery_key = await _recovery_key(settings, connection)
    writer.add(archive.KEYCLOAK, saved.model_dump_json().encode())
    if broker is not None:
        writer.add(archive.BROKER, broker)
    await _copy_images(store, manifest.images, writer, watch)
    writer.close()
    there = {secret.client_id for secret in saved.secrets}
    return Made(
        created_at=manifest.created_at,
        revision=manifest.revision,
        devices=len(manifest.devices),
        images=len(manifest.images),
        has_broker=manifest.has_broker,
        without_secret=[device.client_id for device in manifest.devices if device.client_id not in there],
        missing_images=missing,
    )


async def _manifest(
    settings: BackupSettings, connection: asyncpg.Connection, store: Store, *, has_broker: bool
) -> tuple[Manifest, list[str]]:
    """Return the contents of the snapshot, and the images whose bytes are missing."""
    revision = await tables.revision(connection)
    if revision is None:
        raise NotFoundError("database: has no schema mdm; is MDM_DATABASE_URL right?")
    images = await tables.images(connection)
    missing = [sha256 for sha256 in images if not await store.has(sha256)]
    manifest = Manifest(
        created_at=datetime.now(UTC),
        instance=settings.instance,
        revision=revision,
        tables=await tables.columns(connection),
        sequences=await tables.sequences(connection),
        devices=await tables.devices(connection),
        images={sha256: size for sha256, size in images.items() if sha256 not in missing},
        has_broker=has_broker,
    )
    return manifest, missing


async def _copy_tables(connection: asyncpg.Connection, manifest: Manifest, writer: Writer, watch: Watch) -> None:
    whole, done = await tables.size_bytes(connection), 0
    for table, columns in manifest.tables.items():
        collector = Collector(writer, f"{archive.TABLES}{table}")
        await connection.copy_from_table(table, schema_name=SCHEMA, columns=columns, output=collector.take)
        done += collector.close()
        watch("database", done, max(whole, done))


async def _secrets(clients: Keycloak, manifest: Manifest) -> Secrets:
    wanted = {device.client_id for device in manifest.devices}
    return Secrets(
        secrets=[
            Secret(client_id=it.client_id, secret=it.secret.get_secret_value(), generation=it.generation)
            for it in await clients.ours()
            if it.client_id in wanted
        ]
    )


async def _recovery_key(settings: BackupSettings, connection: asyncpg.Connection) -> str | None:
    """Return the server's private key for recovery: without it no device could recover after a restore."""
    sealed = await connection.fetchval("SELECT private_key FROM mdm.instance")
    if sealed is None:
        return None
    return crypto.Vault(settings.master_keys).decrypt(sealed).get_secret_value()


async def _copy_images(store: Store, images: dict[str, int], writer: Writer, watch: Watch) -> None:
    whole, done = sum(images.values()), 0
    for sha256, size in images.items():
        for offset in range(0, size, PIECE_BYTES):
            piece = await store.read(sha256, offset, PIECE_BYTES)
            writer.add(f"{archive.IMAGES}{sha256}", piece)
            done += len(piece)
            watch("images", done, whole)


def _accounts_file(settings: BackupSettings) -> bytes | None:
    if settings.broker_accounts_file is None:
        return None
    try:
        return settings.broker_accounts_file.read_bytes()
    except OSError as error:
        raise InvalidInputError(f"MDM_BROKER_ACCOUNTS_FILE: cannot be read: {error.strerror}") from error


@contextmanager
def _new_file(target: Path) -> Iterator[BinaryIO]:
    """Open a temporary file; when the block is done, flush it to disk and rename it to `target`."""
    temporary = target.with_name(f".{target.name}.{secrets.token_hex(4)}")
    try:
        descriptor = os.open(temporary, os.O_RDWR | os.O_CREAT | os.O_EXCL, 0o600)
    except OSError as error:
        raise InvalidInputError(f"file: {target} cannot be written: {error.strerror}") from error
    try:
        with os.fdopen(descriptor, "w+b") as file:
            yield file
            file.flush()
            os.fsync(file.fileno())
        temporary.replace(target)
    finally:
        temporary.unlink(missing_ok=True)
