"""Core dumps: received from devices in chunks, verified, stored encrypted, and read by admins.

A dump is a copy of a device's memory, and so may have its secrets. The chunks are in the database, not in the
image store: they are small, are deleted with the device's rows, and one backup has them with their keys.
"""

from __future__ import annotations

import base64
import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Final

import structlog
from sqlalchemy.ext.asyncio import AsyncSession

from services.firmware import queries, rules
from services.firmware.context import Firmware
from services.firmware.diagnostics import queries as diagnostics_queries
from shared import crypto
from shared.crypto import SecretUnreadableError, Vault
from shared.database.tables import CoreDumpRow
from shared.errors import FleetError, InvalidInputError, NotFoundError
from shared.protocol import admin, events, messages
from shared.server.rpc import RequestContext

log = structlog.get_logger()

CHUNK_SIZE_BYTES: Final = 16 * 1024
WINDOW: Final = 8
"""Limit of chunks that a device is asked for at once, and that an answer to an admin has."""
FORGOTTEN_AFTER: Final = timedelta(days=1)
_HOUR: Final = timedelta(hours=1)
_PAGE: Final = 500

Answer = messages.CoreDumpWanted | messages.CoreDumpStored | messages.CoreDumpRefused


class RefusedError(FleetError):
    """A core dump is refused; offering it again will not help."""

    code = "core_dump_refused"


@dataclass(frozen=True, slots=True)
class CoreDumpService:
    """Receives, stores and serves core dumps."""

    firmware: Firmware
    vault: Vault

    async def answer_offer(self, client_id: str, offer: messages.CoreDumpOffer) -> Answer:
        """Return which chunks of a dump are missing, or, if none is, whether it is stored."""
        try:
            async with self.firmware.database.transaction() as session:
                device_id, _ = await queries.device(session, client_id)
                await diagnostics_queries.lock(session, f"coredump/{device_id}")
                answer = await self._answer(session, device_id, client_id, offer)
        except RefusedError as error:
            answer = messages.CoreDumpRefused(sha256=offer.sha256, reason=error.message)
        if isinstance(answer, messages.CoreDumpRefused):
            log.warning("coredump.refused", client_id=client_id, sha256=offer.sha256, reason=answer.reason)
        return answer

    async def store_chunk(self, client_id: str, piece: messages.CoreDumpChunk) -> None:
        """Store a chunk of a dump in progress; a late or repeated one changes nothing."""
        async with self.firmware.database.transaction() as session:
            device_id, _ = await queries.device(session, client_id)
            dump = await diagnostics_queries.dump_of(session, device_id, piece.sha256, share=True)
            if dump is None:
                raise NotFoundError(f"sha256: {client_id} has offered no core dump {piece.sha256}")
            if dump.stored_at is not None or dump.refused is not None:
                return
            rules.check_piece(
                piece.offset, len(piece.data), size_bytes=dump.size_bytes, chunk_size_bytes=CHUNK_SIZE_BYTES
            )
            token = crypto.encrypt_data(self.vault.decrypt(dump.data_key), piece.data)
            await diagnostics_queries.store_chunk(session, dump.id, piece.offset, token)

    async def forget_unfinished(self) -> None:
        """Delete dumps that were begun a day ago and never stored."""
        async with self.firmware.database.transaction() as session:
            await diagnostics_queries.forget_unfinished(session, before=datetime.now(UTC) - FORGOTTEN_AFTER)

    async def list_newest(self, context: RequestContext, request: admin.CoreDumpList) -> admin.CoreDumps:
        """Return a page of the stored dumps."""
        if request.device is not None:
            await diagnostics_queries.check_known(context.session, request.device)
        views = await _views(context.session, await diagnostics_queries.newest(context.session, request))
        return admin.CoreDumps(dumps=views, next=views[-1].id if len(views) == request.limit else None)

    async def show(self, context: RequestContext, request: admin.CoreDumpRef) -> admin.CoreDumpView:
        """Return a stored dump without its bytes."""
        [view] = await _views(context.session, [await diagnostics_queries.stored(context.session, request.id)])
        return view

    async def read(self, context: RequestContext, request: admin.CoreDumpRead) -> admin.CoreDumpBytes:
        """Return bytes of a stored dump, and record the reader in the audit log."""
        dump, client_id = await diagnostics_queries.stored(context.session, request.id)
        pieces = await diagnostics_queries.pieces(context.session, dump.id, start=request.offset, limit=WINDOW)
        if not pieces or pieces[0].offset != request.offset:
            raise InvalidInputError(
                f"offset: must be a multiple of {CHUNK_SIZE_BYTES} below {dump.size_bytes}, is {request.offset}"
            )
        if request.offset == 0:
            context.audit("coredump.read", client_id, after={"id": dump.id, "sha256": dump.sha256})
        return admin.CoreDumpBytes(data=base64.b64encode(self._plain(dump, pieces)))

    async def delete(self, context: RequestContext, request: admin.CoreDumpRef) -> admin.Removed:
        """Delete a stored dump."""
        dump, client_id = await diagnostics_queries.stored(context.session, request.id, lock=True)
        await context.session.delete(dump)
        facts = events.CoreDumpFacts(id=dump.id, sha256=dump.sha256)
        context.audit("coredump.delete", client_id, before=facts.to_data())
        self.firmware.outbox.emit(context.session, events.COREDUMP_DELETED, client_id, facts)
        return admin.Removed(removed=str(dump.id))

    async def rekey(self, context: RequestContext, _: admin.Nothing) -> admin.SecretsRekeyed:
        """Encrypt the key of each dump with the first master key, a page at a time; idempotent."""
        reencrypted, after = 0, 0
        unreadable: set[str] = set()
        while True:
            async with self.firmware.database.transaction() as session:
                page = await diagnostics_queries.locked(session, after=after, limit=_PAGE)
                for dump, client_id in page:
                    after = dump.id
                    try:
                        dump.data_key = self.vault.reencrypt(dump.data_key)
                    except SecretUnreadableError:
                        unreadable.add(client_id)
                    else:
                        reencrypted += 1
            if not page:
                break
        facts = events.RekeyFacts(reencrypted=reencrypted, unreadable=len(unreadable))
        context.audit("coredump.rekey", "secrets", after=facts.to_data())
        self.firmware.outbox.emit(context.session, events.COREDUMP_REKEYED, None, facts)
        return admin.SecretsRekeyed(reencrypted=reencrypted, unreadable=admin.Named.of(sorted(unreadable)))

    async def _answer(
        self, session: AsyncSession, device_id: int, client_id: str, offer: messages.CoreDumpOffer
    ) -> Answer:
        """Answer an offer, or raise RefusedError if nothing is to be changed."""
        limit = admin.MAX_CORE_DUMP_BYTES
        if offer.size_bytes > limit:
            raise RefusedError(f"size_bytes: must be at most {limit}, is {offer.size_bytes}")
        dump = await diagnostics_queries.dump_of(session, device_id, offer.sha256)
        if dump is None:
            dump = await self._begin(session, device_id, offer)
        if dump.refused is not None:
            raise RefusedError(dump.refused)
        if dump.stored_at is not None:
            return messages.CoreDumpStored(sha256=offer.sha256)
        if dump.size_bytes != offer.size_bytes:
            raise RefusedError(f"size_bytes: was {dump.size_bytes} in the first offer, is {offer.size_bytes}")
        there = await diagnostics_queries.offsets(session, dump.id)
        missing = [it for it in rules.offsets(dump.size_bytes, CHUNK_SIZE_BYTES) if it not in there]
        if missing:
            return messages.CoreDumpWanted(
                sha256=offer.sha256, chunk_size_bytes=CHUNK_SIZE_BYTES, missing=missing[:WINDOW]
            )
        return await self._finish(session, client_id, dump)

    async def _begin(self, session: AsyncSession, device_id: int, offer: messages.CoreDumpOffer) -> CoreDumpRow:
        """Begin a dump in place of one that is in progress: a device has only one in its flash."""
        limit = self.firmware.settings.coredumps_per_hour
        if await diagnostics_queries.begun(session, device_id, since=datetime.now(UTC) - _HOUR) >= limit:
            raise RefusedError(f"this device has sent {limit} core dumps within an hour")
        for other in await diagnostics_queries.unfinished(session, device_id):
            await _give_up(session, other, "the device has since offered another core dump")
        dump = CoreDumpRow(
            device_id=device_id,
            sha256=offer.sha256,
            size_bytes=offer.size_bytes,
            elf_sha256=offer.elf_sha256,
            reason=offer.reason,
            firmware_version=offer.firmware_version,
            data_key=self.vault.encrypt(crypto.new_data_key()),
        )
        session.add(dump)
        await session.flush()
        return dump

    async def _finish(self, session: AsyncSession, client_id: str, dump: CoreDumpRow) -> Answer:
        """Store a complete dump, if it has the announced hash."""
        data = self._plain(dump, await diagnostics_queries.pieces(session, dump.id))
        found = hashlib.sha256(data).hexdigest()
        if found != dump.sha256:
            reason = f"sha256: the bytes have {found}"
            await _give_up(session, dump, reason)
            refusal = events.CoreDumpRefusedFacts(sha256=dump.sha256, reason=reason)
            self.firmware.outbox.emit(session, events.COREDUMP_REFUSED, client_id, refusal)
            return messages.CoreDumpRefused(sha256=dump.sha256, reason=reason)
        dump.stored_at = datetime.now(UTC)
        await session.flush()
        await diagnostics_queries.drop_oldest(session, dump.device_id, kept=self.firmware.settings.coredumps_kept)
        facts = events.CoreDumpStoredFacts(
            id=dump.id,
            sha256=dump.sha256,
            size_bytes=dump.size_bytes,
            elf_sha256=dump.elf_sha256,
            reason=dump.reason,
        )
        self.firmware.outbox.emit(session, events.COREDUMP_STORED, client_id, facts)
        return messages.CoreDumpStored(sha256=dump.sha256)

    def _plain(self, dump: CoreDumpRow, pieces: Sequence[diagnostics_queries.CoreDumpPiece]) -> bytes:
        key = self.vault.decrypt(dump.data_key)
        return b"".join(crypto.decrypt_data(key, piece.data) for piece in pieces)


async def _give_up(session: AsyncSession, dump: CoreDumpRow, reason: str) -> None:
    """Drop the chunks of a dump, and record the reason, so that it is not sent again at once."""
    dump.refused = reason
    await session.flush()
    await diagnostics_queries.drop_pieces(session, dump.id)


async def _views(session: AsyncSession, rows: Sequence[tuple[CoreDumpRow, str]]) -> list[admin.CoreDumpView]:
    images = await diagnostics_queries.images_of(session, (dump.elf_sha256 for dump, _ in rows))
    views = []
    for dump, client_id in rows:
        image, model = images.get(dump.elf_sha256, (None, None))
        views.append(
            admin.CoreDumpView.from_row(
                dump,
                client_id=client_id,
                image_model=model,
                image_version=image.version if image else None,
                image_sha256=image.sha256 if image else None,
            )
        )
    return views
