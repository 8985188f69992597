"""Operations on the schedule of rotations."""

from __future__ import annotations

from typing import Annotated

from pydantic import AwareDatetime, Field

from shared.protocol.admin.operation import Nothing, Operation, Request, Result, Role


class ScheduleSet(Request):
    """Set when all devices are queued: a cron expression of five fields, or an empty one for never.

    It is in the local time of `zone`, an IANA name, or of the present one.
    """

    expression: Annotated[str, Field(max_length=200)]
    zone: Annotated[str, Field(max_length=100)] | None = None


class RotationScheduleView(Result):
    """When all devices are queued; `expression` and `next` are empty if no schedule is set. All times in UTC.

    `author` is the account that has set it; None: it is the setting of the rotator.
    """

    expression: str
    zone: str
    author: str | None = None
    last_fire_at: AwareDatetime | None
    next: list[AwareDatetime]


SCHEDULE_SHOW = Operation(
    "rotator", "schedule", "show", Nothing, RotationScheduleView, once=False, role=Role.VIEWER
)
SCHEDULE_SET = Operation("rotator", "schedule", "set", ScheduleSet, RotationScheduleView)
SCHEDULE_CLEAR = Operation("rotator", "schedule", "clear", Nothing, RotationScheduleView)
