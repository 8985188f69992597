"""Queries of the audit log, which `RequestContext.audit` writes in the transaction of each change."""

from __future__ import annotations

from services.registry import queries
from shared.protocol import admin
from shared.server.rpc import RequestContext


async def list_newest(context: RequestContext, request: admin.AuditList) -> admin.Audit:
    """Return the newest matching entries."""
    entries = await queries.audit(context.session, request)
    return admin.Audit(entries=[admin.AuditView.from_row(entry) for entry in entries])
