"""Queries of the audit log, which `RequestContext.audit` writes in the transaction of each change."""

from __future__ import annotations

from services.registry import queries
from shared.protocol import admin
from shared.server.rpc import RequestContext


async def list_newest(context: RequestContext, request: admin.AuditList) -> admin.Audit:
    """Return the newest matching entries."""
    return admin.Audit(
        entries=[
            admin.AuditView(
                at=entry.at,
                actor=entry.actor,
                action=entry.action,
                subject=entry.subject,
                before=entry.before,
                after=entry.after,
            )
            for entry in await queries.audit(context.session, request)
        ]
    )
