"""Findings about the boards themselves, for a person; each was logged when it began."""

from __future__ import annotations

from datetime import datetime

from sqlalchemy.ext.asyncio import AsyncSession

from services.registry import clashes
from services.registry.devices import fault_queries
from shared.protocol import admin


async def findings(session: AsyncSession, now: datetime) -> list[admin.Finding]:
    """Return the clashes that are in progress at `now`, and the flaws of messages."""
    clashing = await fault_queries.clashing(session, since=now - clashes.WINDOW)
    flaws = await fault_queries.common(session)
    return [*map(_clash, clashing), *map(_flaw, flaws)]


def _clash(client_id: str) -> admin.Finding:
    return admin.Finding(
        subject=client_id,
        problem="two boards have this identity and end each other's connection",
        remedy="make one of them another device, with a package of its own",
    )


def _flaw(flaw: fault_queries.CommonFlaw) -> admin.Finding:
    others = f"; of {flaw.devices} devices" if flaw.devices > 1 else ""
    return admin.Finding(
        subject=flaw.client_id,
        problem=f"{flaw.topic}: {flaw.field} breaks a rule: {flaw.rule}{others}",
        remedy="correct the firmware, see mdm device show",
    )
