"""The names of models, tags and devices in operations."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated, Final, Self

from pydantic import Field, model_validator

from shared.protocol.admin.operation import Request, Result
from shared.protocol.wording import pattern

ModelCode = Annotated[str, pattern(r"^[a-z0-9_]{1,50}$", "must be 1 to 50 of a-z, 0-9 and _")]
CommandName = Annotated[
    str,
    pattern(
        r"^[a-z0-9][a-z0-9_.-]{0,49}$", "must be 1 to 50 of a-z, 0-9, -, _ and ., and begin with one of a-z, 0-9"
    ),
]
Tag = Annotated[str, pattern(r"^[a-zA-Z0-9_.:-]{1,50}$", "must be 1 to 50 of a-z, A-Z, 0-9, -, _, . and :")]
Tags = Annotated[list[Tag], Field(max_length=50)]
DeviceName = Annotated[str, pattern(r"^[a-z0-9_-]{1,80}$", "must be the key or the client id of a device")]
"""A device's key or its whole client id."""
PageSize = Annotated[int, Field(ge=1, le=500)]


class Selection(Request):
    """The devices of a request: one, or all that match `tag` and `model`; no filter must be stated as `all`."""

    device: DeviceName | None = None
    all: bool = False
    tag: Tag | None = None
    model: ModelCode | None = None

    @model_validator(mode="after")
    def _one_or_many(self) -> Self:
        many = self.all or self.tag is not None or self.model is not None
        if (self.device is not None) == many:
            raise ValueError("either device, or at least one of all, tag and model must be given")
        return self


MAX_NAMED: Final = 1000
"""Limit of devices of each kind that are named in an answer: it is one message."""


class Named(Result):
    """A number of devices, and the client ids of the first of them, up to MAX_NAMED."""

    count: int
    names: list[str]

    @classmethod
    def of(cls, names: Sequence[str]) -> Self:
        """Return the count of all, and the first names."""
        return cls(count=len(names), names=list(names[:MAX_NAMED]))
