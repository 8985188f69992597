"""Strays: clients and accounts without a row, disabled when found, deleted days later, never many at once.

The database may be at fault: empty, or an earlier copy. A disabled stray is enabled again as soon as it has a row.
"""

from __future__ import annotations

import contextlib
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Final

import structlog
from sqlalchemy import delete, select
from sqlalchemy.dialects.postgresql import insert
from sqlalchemy.ext.asyncio import AsyncSession

from services.registry import queries
from services.registry.context import Registry
from shared.database import device_refs, engine
from shared.database.tables import AdminAccount, Claim, Stray
from shared.errors import FleetError, NotFoundError
from shared.protocol import admin, events

log = structlog.get_logger()
KEPT: Final = timedelta(days=7)
FEW: Final = 5
SHARE: Final = 0.05
"""Limits of strays, as a number and as a share of all rows; beyond them the database is probably the wrong one."""


def too_many(strays: int, rows: int) -> bool:
    """Return whether there are so many strays that the database is more likely to be wrong than they are."""
    return strays > 0 and (rows == 0 or strays > max(FEW, rows * SHARE))


@dataclass(frozen=True, slots=True)
class Strays:
    """Disables, deletes and restores strays."""

    registry: Registry

    async def settle(
        self, found: Mapping[str, str], known: Collection[str], *, rows: int, repair: bool
    ) -> list[admin.Finding]:
        """Return a finding for each stray; `found` describes each, `known` are the names in rows."""
        async with self.registry.database.transaction() as session:
            noted = {it.name: it.found_at for it in await session.scalars(select(Stray))}
        findings = [await self._return(name, repair=repair) for name in sorted(noted.keys() & set(known))]
        fresh = found.keys() - noted.keys()
        if too_many(len(fresh), rows):
            log.error("strays.too_many", strays=len(fresh), rows=rows)
            text = (
                f"left as it is: the database has {rows} rows and lacks {len(fresh)} names; is it the right one?"
            )
            return findings + [
                admin.Finding(subject=name, problem=_problem(what), remedy=text)
                for name, what in sorted(found.items())
            ]
        for name in sorted(found.keys() | (noted.keys() - set(known))):
            what = found.get(name, "nothing any more")
            findings.append(await self._settle(name, what, noted.get(name), repair=repair))
        return findings

    async def _settle(self, name: str, what: str, found_at: datetime | None, *, repair: bool) -> admin.Finding:
        remove_at = None if found_at is None else found_at + KEPT
        repaired, remedy = False, f"disable it, and remove it after {KEPT.days} days"
        if remove_at is not None:
            remedy = f"is disabled, and will be removed at {remove_at:%Y-%m-%d %H:%M} UTC"
        if repair:
            try:
                if remove_at is None:
                    repaired = await self._disable(name)
                elif remove_at <= datetime.now(UTC):
                    repaired = await self._remove(name)
            except FleetError as error:
                log.warning("strays.not_settled", name=name, reason=error.message)
        return admin.Finding(subject=name, problem=_problem(what), remedy=remedy, repaired=repaired)

    async def _disable(self, name: str) -> bool:
        """Disable a stray, unless it has a row by now."""
        identities = self.registry.identities
        async with self.registry.database.transaction() as session:
            await engine.lock_identity(session, name)
            if await is_known(session, name):
                return False
            # A name that has just been deleted has nothing left.
            if await self._enable(name, enabled=False):
                await session.execute(insert(Stray).values(name=name).on_conflict_do_nothing())
                self.registry.outbox.emit(session, events.DEVICE_STRAY, name, events.NoFacts())
        if device_refs.is_client_id(name):
            await identities.clear_retained(name)
        return True

    async def _remove(self, name: str) -> bool:
        identities = self.registry.identities
        async with self.registry.database.transaction() as session:
            await engine.lock_identity(session, name)
            if not await is_known(session, name):
                if device_refs.is_client_id(name):
                    await identities.delete(name)
                else:
                    await identities.broker.admins.delete(name)
            await session.execute(delete(Stray).where(Stray.name == name))
        return True

    async def _return(self, name: str, *, repair: bool) -> admin.Finding:
        """Enable a name that has a row; a device is enabled when it is compared, according to its row."""
        repaired = False
        if repair:
            async with self.registry.database.transaction() as session:
                await engine.lock_identity(session, name)
                if not device_refs.is_client_id(name):
                    await self._enable(name, enabled=True)
                await session.execute(delete(Stray).where(Stray.name == name))
            repaired = True
        text = "was disabled as unknown, and is in the database"
        return admin.Finding(subject=name, problem=text, remedy="enable it", repaired=repaired)

    async def _enable(self, name: str, *, enabled: bool) -> bool:
        """Enable or disable what exists; return whether anything exists."""
        identities, found = self.registry.identities, False
        places = [identities.broker.enable]
        if device_refs.is_client_id(name):
            places.insert(0, identities.keycloak.enable)
        for enable in places:
            with contextlib.suppress(NotFoundError):
                await enable(name, enabled=enabled)
                found = True
        return found


def _problem(what: str) -> str:
    return f"is not in the database but has {what}"


async def is_known(session: AsyncSession, name: str) -> bool:
    """Return whether there is a row of a device in any state, a claim or an admin account of this name."""
    if device_refs.is_client_id(name):
        return await queries.is_known(session, name)
    return any([await session.get(kind, name) is not None for kind in (Claim, AdminAccount)])
