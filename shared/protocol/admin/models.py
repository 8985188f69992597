"""Operations on device models."""

from __future__ import annotations

from typing import Annotated, Any

from pydantic import AfterValidator, Field

from shared.esp32 import chips
from shared.protocol.admin.configuration import Shown
from shared.protocol.admin.names import CommandName, ModelCode
from shared.protocol.admin.operation import Nothing, Operation, Removed, Request, Result, Role
from shared.protocol.messages import Document, Line, Sha256


def _chip(name: str) -> str:
    if (chip := chips.normalise(name)) is None:
        raise ValueError(f"must be one of {', '.join(chips.CHIP_IDS)}, or another name of one of them")
    return chip


Chip = Annotated[
    str,
    AfterValidator(_chip),
    Field(
        json_schema_extra={"enum": list(chips.CHIP_IDS)},
        description="Other spellings are accepted too, such as `ESP32-S3` or `ESP32-D0WD-V3`.",
    ),
]
MAX_IMAGE_BYTES = 16 * 1024 * 1024
SlotSize = Annotated[int, Field(ge=64 * 1024, le=MAX_IMAGE_BYTES)]
SecureBootKeys = Annotated[list[Sha256], Field(max_length=3)]
"""Digests of keys, as burnt into chips; unless empty, images must be signed for Secure Boot by one of them."""
CommandNames = Annotated[list[CommandName], Field(max_length=100)]
"""Commands that devices of a model accept, besides `reboot` and `identify`."""


class ModelAdd(Request):
    """Add a device model; its code cannot be changed later."""

    code: ModelCode
    name: Line = ""
    chip: Chip
    slot_size_bytes: SlotSize = 1536 * 1024
    secure_boot_keys: SecureBootKeys = []
    config_schema: Document | None = None
    config_defaults: Document = {}
    commands: CommandNames = []


class ModelView(Result):
    """A device model; `sealed` are the places that are `writeOnly` in its schema, such as `nets[].psk`."""

    code: str
    name: str
    chip: str
    slot_size_bytes: int
    secure_boot_keys: list[str]
    config_schema: dict[str, Any] | None
    config_defaults: Shown
    sealed: list[str]
    commands: list[str]
    devices: int


class ModelUpdate(Request):
    """Change the given fields of a model; its code cannot be changed.

    Schema and defaults are replaced as a whole (an empty schema allows everything). Each device whose document
    changes gets a new version; if the document of any device would violate the schema, nothing changes.
    """

    code: ModelCode
    name: Line | None = None
    chip: Chip | None = None
    slot_size_bytes: SlotSize | None = None
    secure_boot_keys: SecureBootKeys | None = None
    config_schema: Document | None = None
    config_defaults: Document | None = None
    commands: CommandNames | None = None


class ModelChanged(ModelView):
    """A model after a change, and the devices that got a new version of their configuration."""

    changed: list[str]


class ModelRef(Request):
    """Reference to a model."""

    code: ModelCode


class Models(Result):
    """All device models."""

    models: list[ModelView]


MODEL_ADD = Operation("registry", "model", "add", ModelAdd, ModelView)
MODEL_LIST = Operation("registry", "model", "list", Nothing, Models, once=False, role=Role.VIEWER)
MODEL_UPDATE = Operation("registry", "model", "update", ModelUpdate, ModelChanged)
MODEL_REMOVE = Operation("registry", "model", "remove", ModelRef, Removed)
