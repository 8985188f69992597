"""Restores a backup or parts of it; surviving data takes precedence over the backup.

The whole file is read and checked before anything is changed. The database is committed last, in one transaction:
an interrupted restore leaves it empty and can be repeated, as all steps before are idempotent.
"""

from __future__ import annotations

import asyncio
import os
import socket
from collections.abc import AsyncIterator, Iterable, Iterator
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path
from typing import BinaryIO
from uuid import UUID

import asyncpg
from pydantic import AwareDatetime, SecretStr

from backup import archive, broker_file, identities, tables
from backup.archive import Manifest, Secret, Secrets
from backup.identities import Settled
from backup.make import Watch
from deploy import broker
from shared import crypto
from shared.auth import keycloak
from shared.auth.keycloak import Identity
from shared.database import migrate
from shared.database.tables import SCHEMA
from shared.errors import ConflictError, InvalidInputError
from shared.protocol.admin import Result
from shared.runtime.settings import BackupSettings
from shared.storage.images import Store


class Part(StrEnum):
    """A part that can be restored alone when the rest has survived."""

    DATABASE = "database"
    KEYCLOAK = "keycloak"
    BROKER = "broker"
    IMAGES = "images"


class Restored(Result):
    """The result of a restore, and the devices that need a person.

    `secrets_restored` were written to Keycloak, `secrets_kept` were there. `without_secret` have none in either.
    `newer` have a newer secret than the backup, according to the surviving database or broker file; `in_rotation`
    were in a rotation when the backup was made, and may have one. `adopted` were added after the backup, and have
    rows again, without their names, tags and configurations; `unknown` could not be adopted, as their models are
    unknown, or their creation or removal was not complete: the registry removes them.
    """

    created_at: AwareDatetime
    parts: list[Part]
    devices: int
    secrets_restored: int
    secrets_kept: int
    images: int
    accounts_file: bool
    without_secret: list[str]
    newer: list[str]
    in_rotation: list[str]
    adopted: list[str]
    unknown: list[str]


@dataclass(frozen=True, slots=True)
class Restore:
    """One run of a restore."""

    settings: BackupSettings
    file: BinaryIO
    passphrase: SecretStr
    parts: frozenset[Part]
    watch: Watch

    async def run(self, *, replace: bool) -> Restored:
        """Restore; `replace` a database that is not empty."""
        manifest = self._checked()
        url = self.settings.database_url.get_secret_value()
        async with tables.connected(self.settings.database_url) as connection:
            await self._refuse(connection, manifest, replace=replace)
            await self._reach()
            if Part.DATABASE in self.parts:
                await tables.drop(connection)
                await asyncio.to_thread(migrate.upgrade, url, manifest.revision)
            async with connection.transaction():
                restored = await self._restore(connection, manifest)
        if Part.DATABASE in self.parts:
            await asyncio.to_thread(migrate.upgrade, url)
        await self._take_over(manifest)
        return restored

    async def _take_over(self, manifest: Manifest) -> None:
        """Mark Keycloak's clients as this database's, and encrypt the recovery key with the present master keys.

        Runs after the newest migration: a backup may be older than either.
        """
        saved = Secrets.model_validate_json(archive.whole(self.file, self.passphrase, archive.KEYCLOAK))
        async with tables.connected(self.settings.database_url) as connection:
            async with keycloak.connected(self.settings) as clients:
                mark = await clients.mark()
                if Part.DATABASE in self.parts and "instance" not in manifest.tables and mark is not None:
                    # The backup is older than installation ids: take the id of Keycloak and the broker.
                    await connection.execute("UPDATE mdm.instance SET uuid = $1", UUID(mark))
                await clients.move_mark(str(await connection.fetchval("SELECT uuid FROM mdm.instance")))
            key = saved.recovery_key
            if Part.DATABASE in self.parts and key is not None:
                sealed = crypto.Vault(self.settings.master_keys).encrypt(SecretStr(key))
                await connection.execute("UPDATE mdm.instance SET private_key = $1", sealed)

    def _checked(self) -> Manifest:
        """Read and verify the whole file, or raise DamagedError."""
        size = os.fstat(self.file.fileno()).st_size
        for _ in archive.pieces(self.file, self.passphrase):
            self.watch("checking the file", self.file.tell(), size)
        manifest = archive.read_manifest(self.file, self.passphrase)
        if not migrate.knows(manifest.revision):
            raise ConflictError(f"file: was made by another version of mdm (schema {manifest.revision})")
        if manifest.instance != self.settings.instance:
            raise ConflictError(f"file: is of MDM_INSTANCE={manifest.instance}, not {self.settings.instance}")
        return manifest

    async def _refuse(self, connection: asyncpg.Connection, manifest: Manifest, *, replace: bool) -> None:
        """Raise ConflictError if something runs that must not, or if data would be destroyed."""
        others = await tables.others(connection)
        if others:
            raise ConflictError(f"the database has {others} other connections: stop all services first")
        if self._restores_accounts(manifest) and self._broker_runs():
            where = f"{self.settings.mqtt_host}:{self.settings.mqtt_port}"
            raise ConflictError(f"the broker at {where} runs, and would overwrite its accounts: stop it first")
        if Part.DATABASE not in self.parts:
            if await tables.revision(connection) is None:
                raise ConflictError("the database is empty: it must be restored too")
        elif not replace and not await tables.is_empty(connection):
            raise ConflictError("the database is not empty: --replace destroys what is in it")

    async def _reach(self) -> None:
        """Raise UnavailableError or InvalidInputError if a later step would lack something."""
        Store(self.settings.assets_url)
        async with keycloak.connected(self.settings) as clients:
            await clients.ours()

    async def _restore(self, connection: asyncpg.Connection, manifest: Manifest) -> Restored:
        if Part.DATABASE in self.parts:
            await self._load(connection, manifest)
            devices = manifest.devices
        else:
            devices = await tables.devices(connection)
        settled, strangers = await self._settle_secrets(devices)
        kept = self._write_accounts(settled) if self._restores_accounts(manifest) else []
        images = await self._put_images(manifest) if Part.IMAGES in self.parts else 0
        adopted: list[str] = []
        if Part.DATABASE in self.parts:
            generations = {it.device.key: it.generation for it in settled}
            await tables.settle(connection, generations, manifest.sequences)
            adopted = [it.client_id for it in strangers if await tables.adopt(connection, it)]
        restored = Restored(
            created_at=manifest.created_at,
            parts=[part for part in Part if part in self.parts],
            devices=len(devices),
            secrets_restored=sum(it.restored for it in settled),
            secrets_kept=sum(it.secret is not None and not it.restored for it in settled),
            images=images,
            accounts_file=self._restores_accounts(manifest),
            without_secret=[it.device.client_id for it in settled if it.secret is None],
            newer=sorted({*kept, *(it.device.client_id for it in settled if _is_behind(it))}),
            in_rotation=[it.device.client_id for it in settled if it.restored and it.device.rotating],
            adopted=adopted,
            unknown=[it.client_id for it in strangers if it.client_id not in adopted],
        )
        await tables.record(connection, "backup.restore", restored.model_dump_json())
        return restored

    async def _load(self, connection: asyncpg.Connection, manifest: Manifest) -> None:
        async with tables.loading(connection, manifest.tables):
            for number, (table, pieces) in enumerate(self._entries(archive.TABLES), start=1):
                await connection.copy_to_table(
                    table, schema_name=SCHEMA, columns=manifest.tables[table], source=_stream(pieces)
                )
                self.watch("database", number, len(manifest.tables))

    async def _settle_secrets(self, devices: list[archive.RecordedDevice]) -> tuple[list[Settled], list[Identity]]:
        saved: dict[str, Secret] = {}
        if Part.KEYCLOAK in self.parts:
            found = Secrets.model_validate_json(archive.whole(self.file, self.passphrase, archive.KEYCLOAK))
            saved = {secret.client_id: secret for secret in found.secrets}
        done = 0

        def advance() -> None:
            nonlocal done
            done += 1
            self.watch("Keycloak", done, len(devices))

        async with keycloak.connected(self.settings) as clients:
            return await identities.settle(clients, devices, saved, advance)

    def _write_accounts(self, settled: list[Settled]) -> list[str]:
        """Write the broker's accounts file; return the devices whose account keeps another secret."""
        file = self.settings.broker_accounts_file or Path()
        saved = archive.whole(self.file, self.passphrase, archive.BROKER).decode()
        existing = file.read_text() if file.exists() else None
        text, kept = broker_file.merge(saved, existing, settled)
        owner = (file if existing is not None else file.parent).stat()
        try:
            broker.replace(file, text, mode=0o600)
            if os.geteuid() == 0:
                os.chown(file, owner.st_uid, owner.st_gid)
        except OSError as error:
            raise InvalidInputError(f"MDM_BROKER_ACCOUNTS_FILE: cannot be written: {error.strerror}") from error
        return kept

    async def _put_images(self, manifest: Manifest) -> int:
        store, count = Store(self.settings.assets_url), 0
        for sha256, pieces in self._entries(archive.IMAGES):
            await store.put(sha256, b"".join(pieces))
            count += 1
            self.watch("images", count, len(manifest.images))
        return count

    def _restores_accounts(self, manifest: Manifest) -> bool:
        wanted = Part.BROKER in self.parts and manifest.has_broker
        return wanted and self.settings.broker_accounts_file is not None

    def _broker_runs(self) -> bool:
        try:
            with socket.create_connection((self.settings.mqtt_host, self.settings.mqtt_port), timeout=5):
                return True
        except OSError:
            return False

    def _entries(self, kind: str) -> Iterator[tuple[str, Iterator[bytes]]]:
        return archive.grouped(self.file, self.passphrase, kind)


def _is_behind(settled: Settled) -> bool:
    """Return whether the device has confirmed a newer secret than the one in force, according to the database."""
    return settled.generation is not None and settled.generation < settled.device.generation


async def _stream(pieces: Iterable[bytes]) -> AsyncIterator[bytes]:
    for piece in pieces:
        yield piece
