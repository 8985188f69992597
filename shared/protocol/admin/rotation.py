"""Operations on the rotation of secrets."""

from __future__ import annotations

from typing import Annotated, Self
from uuid import UUID

from pydantic import AwareDatetime, Field, model_validator

from shared.protocol.admin.names import DeviceName, Named, PageSize, Selection
from shared.protocol.admin.operation import Operation, Request, Result, Role
from shared.protocol.messages import Count


class RotationStart(Selection):
    """Queue one device, or all that match, for a rotation of their secrets."""


class RotationQueued(Result):
    """The result for each matching device.

    `queued` are queued now; those of them that are `waiting` are not online, and get their offer when they are.
    `already` were queued or in progress before, `skipped` are disabled. `ending` have a
    rotation that was cancelled and has not ended yet: it is not retried, so repeat the request for these.
    """

    queued: Named
    waiting: Named = Named(count=0, names=[])
    already: Named
    ending: Named
    skipped: Named


class RotationCancel(Request):
    """Cancel the rotations of one device, or of all."""

    device: DeviceName | None = None
    all: bool = False

    @model_validator(mode="after")
    def _one_or_all(self) -> Self:
        if (self.device is not None) == self.all:
            raise ValueError("exactly one of device and all must be given")
        return self


class RotationsCancelled(Result):
    """The result for each device.

    `dequeued` had not begun, `not_retried` had timed out, and `ending` are in progress: each of these ends soon,
    with the old secret or completed by its device, and is not retried. Other devices have nothing to cancel.
    """

    dequeued: Named
    not_retried: Named
    ending: Named


class RotationStatus(Request):
    """Get counts and a page of the rotations in progress, by slot; `after` is the `next` of the page before."""

    after: Annotated[int, Field(ge=-1)] = -1
    limit: PageSize = 500


class RotationCounts(Result):
    """The number of devices in each state."""

    ok: int = 0
    queued: int = 0
    pending: int = 0
    timeout: int = 0


class RotationUnderWay(Result):
    """A rotation in progress; `left_s` is 0 once its time is up; `cancelled`: it ends without a retry."""

    client_id: str
    rotation_id: UUID
    generation: int
    step: str
    slot: int
    started_at: AwareDatetime
    left_s: int
    cancelled: bool


class RotationOverview(Result):
    """The states of the devices, and a page of the rotations in progress; `next` is None on the last.

    Of the queued devices, some wait for no slot: they are `asleep` or `offline`, and get their offer when they are
    online.
    """

    counts: RotationCounts
    asleep: int = 0
    offline: int = 0
    under_way: list[RotationUnderWay]
    next: int | None = None


class RotationHistory(Request):
    """List a page of a device's rotations; `before` is the `next` of the page before."""

    device: DeviceName
    before: Count | None = None
    limit: PageSize = 100


class RotationEntry(Result):
    """One attempt to change a secret; `outcome` is DONE, TIMEOUT, WITHDRAWN, or None while it is in progress.

    WITHDRAWN: the device had left before the switch, and was queued again.
    """

    rotation_id: UUID
    generation: int
    step: str
    outcome: str | None
    started_at: AwareDatetime
    delivered_at: AwareDatetime | None
    stored_at: AwareDatetime | None
    switched_at: AwareDatetime | None
    ended_at: AwareDatetime | None
    duration_s: float | None
    refused_proofs: int


class Rotations(Result):
    """A page of a device's rotations, newest first; `next` is None on the last."""

    client_id: str
    rotations: list[RotationEntry]
    next: int | None = None


ROTATION_START = Operation("rotator", "rotation", "start", RotationStart, RotationQueued, role=Role.OPERATOR)
ROTATION_CANCEL = Operation(
    "rotator", "rotation", "cancel", RotationCancel, RotationsCancelled, role=Role.OPERATOR
)
ROTATION_STATUS = Operation(
    "rotator", "rotation", "status", RotationStatus, RotationOverview, once=False, role=Role.VIEWER
)
ROTATION_HISTORY = Operation(
    "rotator", "rotation", "history", RotationHistory, Rotations, once=False, role=Role.VIEWER
)
