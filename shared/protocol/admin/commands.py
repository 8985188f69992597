"""Operations on commands: things that devices are told to do once, now."""

from __future__ import annotations

from typing import Annotated, Any, Final, Literal
from uuid import UUID

from pydantic import AwareDatetime, Field

from shared.protocol.admin.names import CommandName, DeviceName, PageSize, Selection
from shared.protocol.admin.operation import Operation, Request, Result, Role
from shared.protocol.messages import Count, Document

MAX_BATCH: Final = 10_000
"""To so many devices a command can go at once: the answer, which names each, is one message."""
CommandOutcome = Literal["waiting", "ok", "failed", "expired"]


class CommandSend(Selection):
    """Tell one device, or all that fit `tag` and `model`, to do something once, before it expires.

    The devices' models must list `name`, unless it is `reboot` or `identify`; else none of them is told.
    """

    name: CommandName
    arguments: Document = {}
    expires_in_s: Annotated[int, Field(ge=1, le=7 * 24 * 3600)] = 60


class CommandRef(Result):
    """The command of one device."""

    client_id: str
    command_id: UUID


class CommandSent(Result):
    """The batch that was sent; `skipped` are devices that fit, but are disabled."""

    batch_id: UUID
    expires_at: AwareDatetime
    commands: list[CommandRef]
    skipped: list[str]


class CommandView(Result):
    """A command of one device and what became of it: `result` and `error` are the device's own words."""

    command_id: UUID
    batch_id: UUID
    client_id: str
    name: str
    arguments: dict[str, Any]
    author: str
    created_at: AwareDatetime
    expires_at: AwareDatetime
    outcome: CommandOutcome
    answered_at: AwareDatetime | None
    result: dict[str, Any] | None
    error: str | None


class CommandShow(Request):
    """Ask for a page of a batch, in the order of the devices' making; `after` is the `next` of the page before."""

    batch_id: UUID
    after: Count = 0
    limit: PageSize = 500


class CommandCounts(Result):
    """How many devices of a batch stand how."""

    waiting: int = 0
    ok: int = 0
    failed: int = 0
    expired: int = 0


class CommandBatch(Result):
    """How a batch stands, and a page of its devices; `next` is None on the last.

    A page may be shorter than was asked for: it holds as many results as one message can carry.
    """

    batch_id: UUID
    counts: CommandCounts
    commands: list[CommandView]
    next: int | None = None


class CommandList(Request):
    """Ask for the newest commands, of one device if given."""

    device: DeviceName | None = None
    limit: PageSize = 100


class Commands(Result):
    """Commands, newest first; as many as one message can carry."""

    commands: list[CommandView]


COMMAND_SEND = Operation("registry", "command", "send", CommandSend, CommandSent, role=Role.OPERATOR)
COMMAND_SHOW = Operation("registry", "command", "show", CommandShow, CommandBatch, once=False, role=Role.VIEWER)
COMMAND_LIST = Operation("registry", "command", "list", CommandList, Commands, once=False, role=Role.VIEWER)
