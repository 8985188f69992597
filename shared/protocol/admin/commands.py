"""Operations on commands: actions that devices execute once, immediately."""

from __future__ import annotations

from typing import Annotated, Any, Final, Literal
from uuid import UUID

from pydantic import AwareDatetime, Field

from shared.protocol.admin.names import CommandName, DeviceName, PageSize, Selection
from shared.protocol.admin.operation import Operation, Request, Result, Role
from shared.protocol.messages import Count, Document

MAX_BATCH: Final = 10_000
"""Limit of devices for one command: the answer, which names each, is one message."""
CommandOutcome = Literal["waiting", "ok", "failed", "expired"]


class CommandSend(Selection):
    """Send a command to one device, or to all that match `tag` and `model`, to be executed once before it expires.

    The devices' models must list `name`, unless it is `reboot` or `identify`; else it is sent to none of them.
    """

    name: CommandName
    arguments: Document = {}
    expires_in_s: Annotated[int, Field(ge=1, le=7 * 24 * 3600)] = 60


class CommandRef(Result):
    """Reference to the command of one device."""

    client_id: str
    command_id: UUID


class CommandSent(Result):
    """The batch that was sent; `skipped` are matching devices that are disabled."""

    batch_id: UUID
    expires_at: AwareDatetime
    commands: list[CommandRef]
    skipped: list[str]


class CommandView(Result):
    """A command of one device and its outcome: `result` and `error` are reported by the device."""

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
    """Show a page of a batch, in the order of the devices; `after` is the `next` of the page before."""

    batch_id: UUID
    after: Count = 0
    limit: PageSize = 500


class CommandCounts(Result):
    """The number of devices of a batch in each state."""

    waiting: int = 0
    ok: int = 0
    failed: int = 0
    expired: int = 0


class CommandBatch(Result):
    """The state of a batch, and a page of its devices; `next` is None on the last.

    A page may be shorter than requested: it has as many results as fit into one message.
    """

    batch_id: UUID
    counts: CommandCounts
    commands: list[CommandView]
    next: int | None = None


class CommandList(Request):
    """List the newest commands, optionally of one device."""

    device: DeviceName | None = None
    limit: PageSize = 100


class Commands(Result):
    """Commands, newest first; as many as fit into one message."""

    commands: list[CommandView]


COMMAND_SEND = Operation("registry", "command", "send", CommandSend, CommandSent, role=Role.OPERATOR)
COMMAND_SHOW = Operation("registry", "command", "show", CommandShow, CommandBatch, once=False, role=Role.VIEWER)
COMMAND_LIST = Operation("registry", "command", "list", CommandList, Commands, once=False, role=Role.VIEWER)
