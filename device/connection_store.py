"""The store of connection profiles: one file, replaced atomically."""

from __future__ import annotations

from pathlib import Path
from typing import Final

from pydantic import TypeAdapter, ValidationError

from device import connection, durable
from device.connection import ConnectionSlots, StoredProfile
from device.slots import StateUnreadableError
from shared.protocol.topics import explain

FILE_NAME: Final = "connection.json"
_STORED: Final = TypeAdapter(ConnectionSlots)


class ConnectionStore:
    """The profiles in `folder`; every change is durable when the call returns.

    Fault points: `connection.begin`, `connection.start`, `connection.try`, `connection.reject`,
    `connection.revert`, `connection.works`, `connection.count` and `connection.turn`, each with `:before`,
    `:written` and `:after`.
    """

    def __init__(self, folder: Path, package: StoredProfile, *, fault: durable.Fault = durable.no_fault) -> None:
        """Open the store, or begin it with the package's profile; raise StateUnreadableError."""
        self._path = folder / FILE_NAME
        self._fault = fault
        durable.make_folder(folder)
        if self._path.exists():
            self._slots = self._read()
        else:
            self._write(connection.begun(package), "begin")

    @property
    def slots(self) -> ConnectionSlots:
        """The stored profiles."""
        return self._slots

    def start(self, package: StoredProfile, *, starts_max: int) -> None:
        """Apply what a start of the device means."""
        self._change(connection.started(self._slots, package, starts_max=starts_max), "start")

    def put_on_trial(self, profile: StoredProfile) -> None:
        """Put `profile` on trial; raise IllegalTransitionError if another one is."""
        self._change(connection.tried(self._slots, profile), "try")

    def reject(self, connection_id: str, reason: str) -> None:
        """Record an offer that cannot be used."""
        self._change(connection.rejected(self._slots, connection_id, reason), "reject")

    def revert(self, reason: str) -> None:
        """End a failed trial; raise IllegalTransitionError if there is none."""
        self._change(connection.reverted(self._slots, reason), "revert")

    def answer(self) -> None:
        """Record that the profile in use works; one on trial becomes the first."""
        self._change(connection.answered(self._slots), "works")

    def count(self) -> None:
        """Count a start without an answer."""
        self._change(connection.counted(self._slots), "count")

    def turn(self) -> None:
        """Pass the turn to the other profile; raise IllegalTransitionError if there is none."""
        self._change(connection.turned(self._slots), "turn")

    def _change(self, slots: ConnectionSlots, name: str) -> None:
        if slots != self._slots:
            self._write(slots, name)

    def _read(self) -> ConnectionSlots:
        try:
            return _STORED.validate_json(self._path.read_bytes())
        except ValidationError as error:
            raise StateUnreadableError(f"{self._path}: {explain(error)}") from None

    def _write(self, slots: ConnectionSlots, name: str) -> None:
        data = _STORED.dump_json(slots)
        durable.write(self._path, data, name=f"connection.{name}", fault=self._fault)
        # Only after the file: memory must never be ahead of the disk.
        self._slots = slots
