"""The summary of all devices."""

from __future__ import annotations

from shared.protocol.admin.devices import Health, HealthReasonName, RotationState
from shared.protocol.admin.operation import Nothing, Operation, Result, Role


class RunningVersion(Result):
    """How many devices of a model last reported that they run this version; None: not reported."""

    model: str
    version: str | None
    devices: int


class FleetView(Result):
    """How many devices there are, by health, its reasons and state; what no device has is left out."""

    devices: int
    disabled: int
    online: int
    asleep: int
    drifting: int
    without_key: int
    health: dict[Health, int]
    health_reasons: dict[HealthReasonName, int] = {}
    rotation: dict[RotationState, int]
    versions: list[RunningVersion]


FLEET_SHOW = Operation("registry", "fleet", "show", Nothing, FleetView, once=False, role=Role.VIEWER)
