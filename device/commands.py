"""Commands: each is executed at most once, and its result is sent until the broker has it.

A command is stored before it is executed, with the result that applies if the power fails meanwhile, so that the
same command, delivered again, is answered from the store. `reboot` and `identify` are built in; a user of the
device adds others in `Hooks.commands`.
"""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import Final
from uuid import UUID

from pydantic import BaseModel, JsonValue, ValidationError

from device import durable
from device.options import CommandHandler, Done
from device.server_clock import ServerClock
from device.slots import StateUnreadableError
from device.uplink import Ending, Uplink
from shared.protocol import messages, topics
from shared.protocol.messages import CommandResult
from shared.protocol.topics import explain

FILE_NAME: Final = "commands.json"


class _Entry(BaseModel):
    result: CommandResult
    said: bool = False
    """Whether the broker has the result."""


class _StoredCommands(BaseModel):
    entries: list[_Entry] = []


class CommandStore:
    """The last `kept` commands and their results in `folder`, oldest first.

    Fault points `command.begin:before`, `:written`, `:after`, and so of `command.finish` and `command.said`.
    """

    def __init__(self, folder: Path, *, kept: int, fault: durable.Fault = durable.no_fault) -> None:
        """Open the store; raise StateUnreadableError if its file is damaged."""
        self._path = folder / FILE_NAME
        self._kept = kept
        self._fault = fault
        self._entries: dict[UUID, _Entry] = {}
        durable.make_folder(folder)
        if self._path.exists():
            try:
                stored = _StoredCommands.model_validate_json(self._path.read_bytes())
            except ValidationError as error:
                raise StateUnreadableError(f"{self._path}: {explain(error)}") from None
            self._entries = {entry.result.command_id: entry for entry in stored.entries}

    def result(self, command_id: UUID) -> CommandResult | None:
        """Return the result of a command that was begun, or None."""
        entry = self._entries.get(command_id)
        return None if entry is None else entry.result

    def unsent(self) -> list[CommandResult]:
        """Return the results that the broker does not have, oldest first."""
        return [entry.result for entry in self._entries.values() if not entry.said]

    def begin(self, result: CommandResult) -> None:
        """Store a command before it is executed, with the result that applies if it is interrupted."""
        self._put(_Entry(result=result), name="command.begin")

    def finish(self, result: CommandResult) -> None:
        """Store the result of a command that was begun."""
        self._put(_Entry(result=result), name="command.finish")

    def mark_sent(self, command_id: UUID) -> None:
        """Record that the broker has the result of a command."""
        entry = self._entries.get(command_id)
        if entry is not None and not entry.said:
            self._put(_Entry(result=entry.result, said=True), name="command.said")

    def _put(self, entry: _Entry, *, name: str) -> None:
        entries = {**self._entries, entry.result.command_id: entry}
        newest = list(entries.values())[-self._kept :]
        durable.write(
            self._path, _StoredCommands(entries=newest).model_dump_json().encode(), name=name, fault=self._fault
        )
        self._entries = {it.result.command_id: it for it in newest}


class CommandRunner:
    """Executes commands of the server."""

    def __init__(self, store: CommandStore, uplink: Uplink, clock: ServerClock) -> None:
        self._store = store
        self._uplink = uplink
        self._clock = clock
        self._handlers: dict[str, CommandHandler] = {
            "identify": self._identify,
            "reboot": lambda _arguments: Done(restart=True),
            **uplink.hooks.commands,
        }
        self._restart_after: UUID | None = None

    def on_connected(self) -> None:
        """Send the results that the broker does not have yet."""
        for result in self._store.unsent():
            self._send(result)

    def on_command(self, command: messages.Command) -> None:
        """Execute a command, unless it was begun before, is unknown or has expired, and send its result."""
        known, now = self._store.result(command.command_id), self._clock.now()
        handler = self._handlers.get(command.name)
        if known is not None:
            self._uplink.record("command.repeated", command_id=str(command.command_id))
            self._send(known)
        elif now is not None and command.expires_at <= now:
            self._refuse(command, "expired")
        elif handler is None:
            self._refuse(command, f"unknown command; this firmware knows {', '.join(sorted(self._handlers))}")
        else:
            self._do(command, handler)

    def _do(self, command: messages.Command, handler: CommandHandler) -> None:
        command_id = command.command_id
        self._store.begin(CommandResult(command_id=command_id, ok=False, error="cut off by a restart"))
        done = handler(command.arguments)
        result = CommandResult(command_id=command_id, ok=done.error is None, result=done.result, error=done.error)
        self._store.finish(result)
        self._uplink.record("command.done", command_id=str(command_id), name=command.name, ok=result.ok)
        if done.restart:
            self._restart_after = command_id
        self._send(result)

    def _refuse(self, command: messages.Command, error: str) -> None:
        self._uplink.record("command.refused", command_id=str(command.command_id), name=command.name, error=error)
        self._uplink.send(
            topics.COMMAND_RESULT,
            CommandResult(command_id=command.command_id, ok=False, error=error),
        )

    def _send(self, result: CommandResult) -> None:
        self._uplink.send(topics.COMMAND_RESULT, result, then=partial(self._on_sent, result.command_id))

    def _on_sent(self, command_id: UUID) -> None:
        self._store.mark_sent(command_id)
        if command_id == self._restart_after:
            self._uplink.end(Ending.REBOOT)

    def _identify(self, _arguments: dict[str, JsonValue]) -> Done:
        """Identify the device visibly: this one only has its log for it."""
        self._uplink.record("device.identified")
        return Done()
