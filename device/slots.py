"""The credential store: two slots in one file, replaced atomically."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Final

from pydantic import TypeAdapter, ValidationError

from device import durable, rotation
from device.rotation import Slot, Slots
from shared.errors import FleetError
from shared.protocol.topics import explain

FILE_NAME: Final = "slots.json"
_READER: Final = TypeAdapter(Slots)


class StateUnreadableError(FleetError):
    """A file of the device's state is damaged."""

    code = "state_unreadable"


class SlotStore:
    """The two slots in `folder`; every change is durable when the call returns.

    Fault points: `slots.begin`, `slots.adopt`, `slots.fill_second`, `slots.recover`, `slots.promote` and
    `slots.discard_second`, each with `:before`, `:written` and `:after`.
    """

    def __init__(self, folder: Path, provisioned: Slot, *, fault: durable.Fault = durable.no_fault) -> None:
        """Open the store, or begin it with the provisioned secret; raise StateUnreadableError."""
        self._path = folder / FILE_NAME
        self._fault = fault
        durable.make_folder(folder)
        if self._path.exists():
            self._slots = self._read()
        else:
            self._write(Slots(provisioned), "slots.begin")

    @property
    def slots(self) -> Slots:
        """The stored slots."""
        return self._slots

    def fill_second(self, slot: Slot) -> None:
        """Put `slot` on trial; raise IllegalTransitionError if another one is."""
        self._write(rotation.filled(self._slots, slot), "slots.fill_second")

    def recover(self, slot: Slot) -> None:
        """Put a recovered secret on trial, in place of one that was refused."""
        self._write(rotation.recovered(self._slots, slot), "slots.recover")

    def promote(self) -> None:
        """Make the second slot the first and empty it; raise IllegalTransitionError if it is empty."""
        self._write(rotation.promoted(self._slots), "slots.promote")

    def discard_second(self) -> None:
        """Empty the second slot."""
        self._write(rotation.discarded(self._slots), "slots.discard_second")

    def adopt(self, provisioned: Slot) -> None:
        """Make the package's secret the first slot, now that the server has confirmed its generation."""
        self._write(rotation.adopted(self._slots, provisioned), "slots.adopt")

    def _read(self) -> Slots:
        try:
            return _READER.validate_json(self._path.read_bytes())
        except ValidationError as error:
            raise StateUnreadableError(f"{self._path}: {explain(error)}") from None

    def _write(self, slots: Slots, name: str) -> None:
        document = {"first": _plain(slots.first), "second": _plain(slots.second)}
        durable.write(self._path, json.dumps(document).encode(), name=name, fault=self._fault)
        # Only after the file: memory must never be ahead of the disk.
        self._slots = slots


def _plain(slot: Slot | None) -> dict[str, object] | None:
    if slot is None:
        return None
    return {
        "secret": slot.secret.get_secret_value(),
        "generation": slot.generation,
        "rotation_id": None if slot.rotation_id is None else str(slot.rotation_id),
    }
