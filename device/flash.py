"""A simulated flash: two application slots and the record of the boot slot, as in ESP-IDF."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from pathlib import Path
from typing import Final, Literal

from pydantic import BaseModel, Field, ValidationError

from device import durable, image
from device.slots import StateUnreadableError
from shared.errors import IllegalTransitionError
from shared.protocol.messages import FirmwareStage
from shared.protocol.topics import explain

FILE_NAME: Final = "otadata.json"
_REFUSED_MAX: Final = 16


class Outcome(BaseModel):
    """The outcome of a new image; kept until the broker has it."""

    sha256: str
    stage: FirmwareStage
    error: str | None = None


class _OtaData(BaseModel):
    active: Literal[0, 1] = 0
    pending_verify: bool = False
    boot_attempts: int = Field(default=0, ge=0)
    refused: list[str] = []
    outcome: Outcome | None = None


class Flash:
    """`ota_0.bin`, `ota_1.bin` and `otadata.json` in `folder`; every change is durable when the call returns.

    Fault points: `flash.install`, `flash.begin`, `flash.boot`, `flash.activate`, `flash.confirm`,
    `flash.roll_back` and `flash.clear_outcome`, each with `:before`, `:written` and `:after`.
    """

    def __init__(
        self,
        folder: Path,
        *,
        first_image: Callable[[], bytes],
        boots_max: int = 3,
        fault: durable.Fault = durable.no_fault,
    ) -> None:
        """Boot: install `first_image` into an empty flash, and roll back an image that was never confirmed.

        Raises StateUnreadableError and ImageInvalidError.
        """
        self.folder = folder
        self._path = folder / FILE_NAME
        self._fault = fault
        durable.make_folder(folder)
        if self._path.exists():
            self._data = self._load()
        else:
            data = first_image()
            image.read(data)
            durable.write(self.path_of(0), data, name="flash.install", fault=fault)
            self._change("flash.begin", _OtaData())
        if self._data.pending_verify:
            if self._data.boot_attempts >= boots_max:
                self.roll_back(f"was started {boots_max} times without being confirmed")
            else:
                attempts = self._data.boot_attempts + 1
                self._change("flash.boot", self._data.model_copy(update={"boot_attempts": attempts}))
        self._read_running()

    def path_of(self, slot: int) -> Path:
        """Return the file of a slot."""
        return self.folder / f"ota_{slot}.bin"

    @property
    def inactive(self) -> int:
        """The slot that does not run."""
        return 1 - self._data.active

    @property
    def pending_verify(self) -> bool:
        """Whether the running image is on trial; the other slot is its way back and must not be touched."""
        return self._data.pending_verify

    @property
    def outcome(self) -> Outcome | None:
        """The outcome of a new image that is still to be reported."""
        return self._data.outcome

    def is_refused(self, sha256: str) -> bool:
        """Return whether this image was rolled back before."""
        return sha256 in self._data.refused

    def activate(self) -> None:
        """Boot the other slot next, on trial; the running image stays the running one until then."""
        if self._data.pending_verify:
            raise IllegalTransitionError("the running image is on trial and cannot be replaced")
        change = {"active": self.inactive, "pending_verify": True, "boot_attempts": 0, "outcome": None}
        self._change("flash.activate", self._data.model_copy(update=change))

    def confirm(self) -> None:
        """Confirm the running image."""
        outcome = Outcome(sha256=self.running_sha256, stage=FirmwareStage.CONFIRMED)
        change = {"pending_verify": False, "boot_attempts": 0, "outcome": outcome}
        self._change("flash.confirm", self._data.model_copy(update=change))

    def roll_back(self, error: str) -> None:
        """Boot the other slot again, and refuse the image on trial from now on; `error` is one line."""
        if not self._data.pending_verify:
            raise IllegalTransitionError("the running image is confirmed and cannot be rolled back")
        sha256 = hashlib.sha256(self.path_of(self._data.active).read_bytes()).hexdigest()
        change = {
            "active": self.inactive,
            "pending_verify": False,
            "boot_attempts": 0,
            "refused": [*self._data.refused, sha256][-_REFUSED_MAX:],
            "outcome": Outcome(sha256=sha256, stage=FirmwareStage.ROLLED_BACK, error=error),
        }
        self._change("flash.roll_back", self._data.model_copy(update=change))
        self._read_running()

    def clear_outcome(self) -> None:
        """Forget the outcome, now that it is reported."""
        self._change("flash.clear_outcome", self._data.model_copy(update={"outcome": None}))

    def _read_running(self) -> None:
        data = self.path_of(self._data.active).read_bytes()
        self.running = image.read(data)
        self.running_sha256 = hashlib.sha256(data).hexdigest()

    def _load(self) -> _OtaData:
        try:
            return _OtaData.model_validate_json(self._path.read_bytes())
        except ValidationError as error:
            raise StateUnreadableError(f"{self._path}: {explain(error)}") from None

    def _change(self, name: str, data: _OtaData) -> None:
        durable.write(self._path, data.model_dump_json().encode(), name=name, fault=self._fault)
        self._data = data
