"""Operations that look after the whole: the audit log and the reconciler."""

from __future__ import annotations

from typing import Annotated, Any

from pydantic import AwareDatetime, Field

from shared.protocol.admin.operation import Nothing, Operation, Request, Result, Role
from shared.protocol.messages import Line


class Finding(Result):
    """One thing that does not agree; `remedy` is what a repair does, or what a person has to do."""

    client_id: str
    problem: str
    remedy: str
    repaired: bool = False


class Diagnosis(Result):
    """What was compared, and what does not agree."""

    devices: int
    findings: list[Finding]


class AuditList(Request):
    """Ask for the newest entries of the audit log, about one subject or by one account if given."""

    subject: Line | None = None
    actor: Line | None = None
    limit: Annotated[int, Field(ge=1, le=500)] = 100


class AuditView(Result):
    """Who did what, on what, when, and what was there before and after."""

    at: AwareDatetime
    actor: str
    action: str
    subject: str
    before: dict[str, Any] | None
    after: dict[str, Any] | None


class Audit(Result):
    """Entries of the audit log, newest first."""

    entries: list[AuditView]


DOCTOR = Operation("registry", "doctor", "run", Nothing, Diagnosis, role=Role.VIEWER)
"""Compare database, Keycloak and broker: once for a request that is repeated while it takes its time."""
DOCTOR_REPAIR = Operation("registry", "doctor", "repair", Nothing, Diagnosis)
"""Compare them, and mend what can be mended."""
AUDIT_LIST = Operation("registry", "audit", "list", AuditList, Audit, once=False, role=Role.VIEWER)
