"""The names by which operations speak of models, tags and devices."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated, Final, Self

from pydantic import Field

from shared.admin.operation import Result

ModelCode = Annotated[str, Field(pattern=r"^[a-z0-9_]{1,50}$")]
CommandName = Annotated[str, Field(pattern=r"^[a-z0-9][a-z0-9_.-]{0,49}$")]
Tag = Annotated[str, Field(pattern=r"^[a-zA-Z0-9_.:-]{1,50}$")]
Tags = Annotated[list[Tag], Field(max_length=50)]
DeviceName = Annotated[str, Field(pattern=r"^[a-z0-9_-]{1,80}$")]
"""A device's key or its whole client id."""
MAX_NAMED: Final = 1000
"""So many devices an answer names of each kind at most: it is one message."""


class Named(Result):
    """How many devices there are, and the client ids of the first of them, up to MAX_NAMED."""

    count: int
    names: list[str]

    @classmethod
    def of(cls, names: Sequence[str]) -> Self:
        """Count them all, and name the first."""
        return cls(count=len(names), names=list(names[:MAX_NAMED]))
