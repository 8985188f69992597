"""Operations on the schedule of rotations."""

from __future__ import annotations

from pydantic import AwareDatetime

from shared.protocol.admin.operation import Nothing, Operation, Result, Role


class RotationScheduleView(Result):
    """When all devices are queued; `expression` and `next` are empty if no schedule is set. All times in UTC."""

    expression: str
    zone: str
    last_fire_at: AwareDatetime | None
    next: list[AwareDatetime]


ROTATION_SCHEDULE = Operation(
    "rotator", "rotation", "schedule", Nothing, RotationScheduleView, once=False, role=Role.VIEWER
)
