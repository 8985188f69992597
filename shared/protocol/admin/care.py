"""Operations of maintenance: the audit log, what has happened, and the reconciler."""

from __future__ import annotations

from typing import Annotated, Any
from uuid import UUID

from pydantic import AwareDatetime, Field

from shared.protocol.admin.names import DeviceName, PageSize
from shared.protocol.admin.operation import Nothing, Operation, Request, Result, Role
from shared.protocol.messages import Count, Line


class Finding(Result):
    """One difference; `remedy` is the action of a repair, or what a person has to do.

    `subject` is what it is about: a client id, an image, the place of a certificate.
    """

    subject: str
    problem: str
    remedy: str
    repaired: bool = False


class Diagnosis(Result):
    """What was compared, and the differences."""

    devices: int
    findings: list[Finding]


class AuditList(Request):
    """List a page of the audit log, optionally of one subject or account.

    `before` is the `next` of the page before.
    """

    subject: Line | None = None
    actor: Line | None = None
    before: Count | None = None
    limit: Annotated[int, Field(ge=1, le=500)] = 100


class AuditView(Result):
    """Who did what to what, and when, with the values before and after."""

    at: AwareDatetime
    actor: str
    action: str
    subject: str
    before: dict[str, Any] | None
    after: dict[str, Any] | None


class Audit(Result):
    """A page of the audit log, newest first; `next` is None on the last."""

    entries: list[AuditView]
    next: int | None = None


class EventList(Request):
    """List a page of the events that are kept, optionally of one device, or with one noun.

    `before` is the `next` of the page before.
    """

    device: DeviceName | None = None
    noun: Line | None = None
    before: Count | None = None
    limit: PageSize = 100


class EventView(Result):
    """Something that has happened, as it was published."""

    event_id: UUID
    at: AwareDatetime
    noun: str
    verb: str
    client_id: str | None
    data: dict[str, Any]


class Events(Result):
    """A page of events, newest first; `next` is None on the last."""

    events: list[EventView]
    next: int | None = None


DOCTOR = Operation("registry", "doctor", "run", Nothing, Diagnosis, role=Role.VIEWER)
"""Compare database, Keycloak and broker; a repetition of the request while it runs waits for the same result."""
DOCTOR_REPAIR = Operation("registry", "doctor", "repair", Nothing, Diagnosis)
"""Compare them, and repair the differences that can be repaired."""
FIRMWARE_DOCTOR = Operation("firmware", "doctor", "run", Nothing, Diagnosis, role=Role.VIEWER)
"""Compare images with the store, and look for devices that do not get theirs."""
FIRMWARE_DOCTOR_REPAIR = Operation("firmware", "doctor", "repair", Nothing, Diagnosis)
"""Compare them, and delete bytes in the store that belong to no image."""
AUDIT_LIST = Operation("registry", "audit", "list", AuditList, Audit, once=False, role=Role.VIEWER)
EVENT_LIST = Operation("registry", "event", "list", EventList, Events, once=False, role=Role.VIEWER)
