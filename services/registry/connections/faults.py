"""Findings about devices' connections, for a person; each was logged when it began."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping
from datetime import datetime, timedelta
from typing import Any, Final

from sqlalchemy.ext.asyncio import AsyncSession

from services.registry import connection_rules
from services.registry.connections import overview_queries
from services.registry.connections import queries as connection_queries
from services.registry.connections.status import status
from shared.protocol import admin

SOON: Final = timedelta(days=365)
"""As for the authority in the registry's settings: a board may be in a drawer for months."""
_REMEDY: Final = "see mdm connection show DEVICE, and connections.md"


async def findings(session: AsyncSession, base: Mapping[str, Any], now: datetime) -> list[admin.Finding]:
    """Return the devices that do not use the wanted profile although they could, and authorities that end soon."""
    layers = await connection_queries.in_force(session, base)
    problems: defaultdict[str, list[str]] = defaultdict(list)
    for device in await overview_queries.suspects(session):
        wanted = layers.wanted(device.device_id, device.tags).connection_id
        match connection_rules.progress(device.stored, wanted):
            case "fallback":
                problem = "cannot connect with its connection profile, and uses the former one"
            case "refused":
                reason = device.stored.refused_reason or device.stored.refused_outcome
                problem = f"did not keep the wanted connection profile: {reason}"
            case _:
                continue
        problems[problem].append(device.client_id)
    found = [
        admin.Finding(subject=names[0], problem=f"{problem}{_others(names)}", remedy=_REMEDY)
        for problem, names in problems.items()
    ]
    uses = (await status(session, layers)).authorities
    return found + [_ending(it, now) for it in uses if it.alone and it.ends_at < now + SOON]


def _others(names: list[str]) -> str:
    return f"; of {len(names)} devices" if len(names) > 1 else ""


def _ending(authority: admin.AuthorityUse, now: datetime) -> admin.Finding:
    verb = "ends" if authority.ends_at > now else "ended"
    return admin.Finding(
        subject=authority.subject,
        problem=f"{authority.alone} devices trust it alone, and it {verb} on {authority.ends_at:%Y-%m-%d}",
        remedy="mdm connection set --ca with its successor too: connections.md",
    )
