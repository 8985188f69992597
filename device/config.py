"""The device's configuration: stored durably, applied once a version, reported as often as it comes."""

from __future__ import annotations

import json
import uuid
from pathlib import Path
from typing import Final

from pydantic import BaseModel, JsonValue, ValidationError

from device import durable
from device.options import Options
from device.slots import StateUnreadableError
from device.uplink import Saying, Uplink, one_line
from shared import messages, topics
from shared.messages import ConfigOutcome
from shared.topics import explain

FILE_NAME: Final = "config.json"
_KEY: Final = "config"


class _Stored(BaseModel):
    version: int
    document: dict[str, JsonValue]


class ConfigStore:
    """The applied configuration in `folder`; fault points `config.apply:before`, `:written` and `:after`."""

    def __init__(self, folder: Path, *, fault: durable.Fault = durable.no_fault) -> None:
        """Open the store; raise StateUnreadableError when its file is not what the device wrote."""
        self._path = folder / FILE_NAME
        self._fault = fault
        self._stored: _Stored | None = None
        durable.make_folder(folder)
        if self._path.exists():
            try:
                self._stored = _Stored.model_validate_json(self._path.read_bytes())
            except ValidationError as error:
                raise StateUnreadableError(f"{self._path}: {explain(error)}") from None

    @property
    def version(self) -> int | None:
        """The applied version, or None before the first one."""
        return None if self._stored is None else self._stored.version

    @property
    def document(self) -> dict[str, JsonValue]:
        """The applied document; empty before the first one."""
        return {} if self._stored is None else self._stored.document

    def apply(self, version: int, document: dict[str, JsonValue]) -> None:
        """Make `document` the applied configuration, durably."""
        data = json.dumps({"version": version, "document": document}).encode()
        durable.write(self._path, data, name="config.apply", fault=self._fault)
        self._stored = _Stored(version=version, document=document)


class Configuration:
    """Asks for the configuration on each connection, applies what comes, and reports what it did."""

    def __init__(self, store: ConfigStore, uplink: Uplink, options: Options) -> None:
        self._store = store
        self._uplink = uplink
        self._options = options
        self._asked: str | None = None

    @property
    def version(self) -> int | None:
        """The applied version, or None before the first one."""
        return self._store.version

    def on_connected(self) -> None:
        """Ask, until answered."""
        self._ask()

    def on_config(self, config: messages.Config) -> bool:
        """Apply or reject a version and report it; return whether this answers our own question."""
        answers = config.request_id is not None and config.request_id == self._asked
        if answers:
            self._asked = None
            sweep_s = self._options.sweep_s
            self._uplink.repeat(_KEY, self._sweep, every_s=sweep_s, first_in_s=sweep_s)
        applied = self._store.version
        if applied is not None and config.version == applied:
            self._report(config.version, ConfigOutcome.APPLIED)
        elif config.document is None:
            self._uplink.note("config.contradiction", version=config.version, applied=applied)
        elif applied is not None and config.version < applied and not answers:
            self._uplink.note("config.stale", version=config.version, applied=applied)
        else:
            self._take(config.version, config.document)
            if self._asked is not None:
                # An answer that is still under way may be older than this push; only a new one will do.
                self._ask()
        return answers

    def _take(self, version: int, document: dict[str, JsonValue]) -> None:
        fault = self._uplink.hooks.check_config(document)
        if fault is not None:
            self._uplink.note("config.rejected", version=version, error=fault)
            self._report(version, ConfigOutcome.REJECTED, one_line(fault))
            return
        self._store.apply(version, document)
        self._uplink.note("config.applied", version=version)
        self._report(version, ConfigOutcome.APPLIED)

    def _report(self, version: int, outcome: ConfigOutcome, error: str | None = None) -> None:
        report = messages.ConfigReport(version=version, outcome=outcome, error=error)
        self._uplink.say(topics.CONFIG_REPORT, report)

    def _ask(self, *, first_in_s: float = 0.0) -> None:
        self._asked = uuid.uuid4().hex
        retry_s = self._options.retry_s
        self._uplink.repeat(_KEY, self._question, every_s=retry_s, first_in_s=first_in_s)

    def _question(self) -> Saying | None:
        if self._asked is None:
            return None
        question = messages.ConfigGet(request_id=self._asked, have_version=self._store.version)
        return topics.CONFIG_GET, question

    def _sweep(self) -> Saying | None:
        self._ask(first_in_s=self._options.retry_s)
        return self._question()
