"""Operations on the rotation of secrets."""

from __future__ import annotations

from typing import Self

from pydantic import model_validator

from shared.admin.names import DeviceName
from shared.admin.operation import Operation, Request, Result


class RotationStart(Request):
    """Queue devices for a rotation of their secrets: one, or all that are enabled, said in so many words."""

    device: DeviceName | None = None
    all: bool = False

    @model_validator(mode="after")
    def _one_or_all(self) -> Self:
        if (self.device is None) != self.all:
            raise ValueError("exactly one of device and all must be given")
        return self


class RotationQueued(Result):
    """The devices that are queued now; `already` were queued or under way before."""

    queued: list[str]
    already: list[str]


ROTATION_START = Operation("rotator", "rotation", "start", RotationStart, RotationQueued)
