"""The names by which operations speak of models, tags and devices."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field

ModelCode = Annotated[str, Field(pattern=r"^[a-z0-9_]{1,50}$")]
CommandName = Annotated[str, Field(pattern=r"^[a-z0-9][a-z0-9_.-]{0,49}$")]
Tag = Annotated[str, Field(pattern=r"^[a-zA-Z0-9_.:-]{1,50}$")]
Tags = Annotated[list[Tag], Field(max_length=50)]
DeviceName = Annotated[str, Field(pattern=r"^[a-z0-9_-]{1,80}$")]
"""A device's key or its whole client id."""
