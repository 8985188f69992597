"""The audit log, as an admin reads it; it is written by `Caller.audit`, in the transaction of each change."""

from __future__ import annotations

from services.registry import queries
from shared.protocol import admin
from shared.server.rpc import RequestContext


async def list_newest(context: RequestContext, request: admin.AuditList) -> admin.Audit:
    """Return the newest entries that fit."""
    entries = await queries.audit(context.session, request)
    return admin.Audit(entries=[admin.AuditView.from_row(entry) for entry in entries])
