"""Queries of the audit log, which `RequestContext.audit` writes in the transaction of each change."""

from __future__ import annotations

from services.registry import queries
from shared.protocol import admin
from shared.server.rpc import RequestContext, fitting


async def list_newest(context: RequestContext, request: admin.AuditList) -> admin.Audit:
    """Return a page of the matching entries, as many as fit into one message."""
    rows = await queries.audit(context.session, request)
    entries = fitting(admin.AuditView.from_row(row) for row in rows)
    is_last = len(rows) < request.limit and len(entries) == len(rows)
    return admin.Audit(entries=entries, next=None if is_last else rows[len(entries) - 1].id)
