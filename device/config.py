"""The device's configuration: stored durably, applied once for each version, reported whenever it is received.

A version on trial must be followed by a new connection and a report on it within its time. Otherwise, or if the
device restarts before, the last good version is in force again, and `reverted` is reported until the next one.
"""

from __future__ import annotations

import uuid
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Final

from pydantic import BaseModel, JsonValue, ValidationError

from device import durable
from device.options import Options
from device.slots import StateUnreadableError
from device.uplink import Ending, Outgoing, Uplink
from shared.protocol import messages, topics
from shared.protocol.messages import ConfigOutcome, ConnectionState
from shared.protocol.topics import explain

FILE_NAME: Final = "config.json"
_KEY: Final = "config"
_TRIAL_KEY: Final = "config.trial"


class _Good(BaseModel):
    version: int | None
    document: dict[str, JsonValue]


class _StoredConfig(_Good):
    good: _Good | None = None
    """The version to revert to while `version` is on trial."""
    refused: int | None = None
    """The version that failed its trial, until the next one is applied."""


class ConfigStore:
    """The applied configuration in `folder`; fault points `config.apply:before`, `:written`, `:after`.

    The same three of `config.confirm` and `config.revert` are around the two ends of a trial.
    """

    def __init__(self, folder: Path, *, fault: durable.Fault = durable.no_fault) -> None:
        """Open the store; raise StateUnreadableError if its file is damaged."""
        self._path = folder / FILE_NAME
        self._fault = fault
        self._stored = _StoredConfig(version=None, document={})
        durable.make_folder(folder)
        if self._path.exists():
            try:
                self._stored = _StoredConfig.model_validate_json(self._path.read_bytes())
            except ValidationError as error:
                raise StateUnreadableError(f"{self._path}: {explain(error)}") from None

    @property
    def version(self) -> int | None:
        """The applied version, or None before the first one."""
        return self._stored.version

    @property
    def document(self) -> dict[str, JsonValue]:
        """The applied document; empty before the first one."""
        return self._stored.document

    @property
    def on_trial(self) -> bool:
        """Whether the applied version is still on trial."""
        return self._stored.good is not None

    @property
    def refused(self) -> int | None:
        """The version that was reverted, until the next one is applied."""
        return self._stored.refused

    def apply(self, version: int, document: dict[str, JsonValue], *, on_trial: bool = False) -> None:
        """Make `document` the applied configuration, durably; on trial, keep the last good one."""
        before = self._stored
        good = before.good or _Good(version=before.version, document=before.document)
        stored = _StoredConfig(version=version, document=document, good=good if on_trial else None)
        self._write(stored, name="config.apply")

    def confirm(self) -> None:
        """Keep the version on trial."""
        self._write(self._stored.model_copy(update={"good": None}), name="config.confirm")

    def revert(self) -> None:
        """Revert from the version on trial to the last good one."""
        good = self._stored.good or _Good(version=None, document={})
        stored = _StoredConfig(version=good.version, document=good.document, refused=self._stored.version)
        self._write(stored, name="config.revert")

    def _write(self, stored: _StoredConfig, *, name: str) -> None:
        data = stored.model_dump_json().encode()
        durable.write(self._path, data, name=name, fault=self._fault)
        self._stored = stored


class Configuration:
    """Requests the configuration on each connection, applies what is received, and reports the outcome.

    Each request has the state that `connection` returns; its answer proves the connection.
    """

    def __init__(
        self, store: ConfigStore, uplink: Uplink, options: Options, connection: Callable[[], ConnectionState]
    ) -> None:
        self._store = store
        self._connection = connection
        self._uplink = uplink
        self._options = options
        self._asked: str | None = None
        self.trial_by: float | None = None
        """When a version on trial is reverted, on the hooks' clock in seconds."""
        if store.on_trial:
            self._revert("the device restarted during the trial")

    @property
    def version(self) -> int | None:
        """The applied version, or None before the first one."""
        return self._store.version

    @property
    def is_busy(self) -> bool:
        """Whether a request is not answered yet, or a version is on trial."""
        return self._asked is not None or self.trial_by is not None

    def on_connected(self) -> None:
        """Prove or revert a version on trial, repeat the report of a reverted one, request the configuration."""
        if self.trial_by is not None:
            self._prove(self.trial_by)
        elif self._store.refused is not None:
            self._report(self._store.refused, ConfigOutcome.REVERTED)
        self.request()

    def request(self) -> None:
        """Send a request, which also reports the state of the connection profiles, until it is answered."""
        self._begin_request()

    def is_answer(self, config: messages.Config) -> bool:
        """Return whether a message answers our own request on this connection."""
        return config.request_id is not None and config.request_id == self._asked

    def on_trial_timeout(self) -> None:
        """Revert to the last good version: the one on trial was not proven in time."""
        if self.trial_by is not None:
            self._revert("was not connected and reported in time")

    def on_config(self, config: messages.Config) -> None:
        """Apply or reject a version and report it.

        A version on trial ends the connection: it is reported on the next one.
        """
        answers = self.is_answer(config)
        if answers:
            self._asked = None
            sweep_s = self._options.sweep_s
            self._uplink.repeat(_KEY, self._next_refresh, every_s=sweep_s, first_in_s=sweep_s)
        applied = self._store.version
        if applied is not None and config.version == applied:
            # One on trial is reported on each connection already.
            if self.trial_by is None:
                self._report(config.version, ConfigOutcome.APPLIED)
        elif config.version == self._store.refused:
            self._report(config.version, ConfigOutcome.REVERTED)
        elif config.document is None:
            self._uplink.record("config.contradiction", version=config.version, applied=applied)
        elif applied is not None and config.version < applied and not answers:
            self._uplink.record("config.stale", version=config.version, applied=applied)
        else:
            self._take(config.version, config.document, config.trial_seconds)
            if self._asked is not None:
                # An answer that is still in progress may be older than this push; request again.
                self._begin_request()

    def _take(self, version: int, document: dict[str, JsonValue], trial_seconds: int | None) -> None:
        fault = self._uplink.hooks.check_config(document)
        if fault is not None:
            self._uplink.record("config.rejected", version=version, error=fault)
            self._report(version, ConfigOutcome.REJECTED, fault)
            return
        self._store.apply(version, document, on_trial=trial_seconds is not None)
        self._uplink.stop(_TRIAL_KEY)
        if trial_seconds is not None:
            self.trial_by = self._uplink.hooks.clock() + trial_seconds
            self._uplink.record("config.on_trial", version=version, trial_seconds=trial_seconds)
            self._uplink.end(Ending.SWITCH)
            return
        self.trial_by = None
        self._uplink.record("config.applied", version=version)
        self._report(version, ConfigOutcome.APPLIED)

    def _prove(self, trial_by: float) -> None:
        """Report the version on trial; it is confirmed once the broker has the report."""
        version, left_s = self._store.version, trial_by - self._uplink.hooks.clock()
        if version is None or left_s <= 0:
            self.on_trial_timeout()
            return
        self._uplink.repeat(_TRIAL_KEY, self._end_trial, every_s=left_s, first_in_s=left_s)
        report = messages.ConfigReport(version=version, outcome=ConfigOutcome.APPLIED)
        self._uplink.send(topics.CONFIG_REPORT, report, then=partial(self._on_reported, version))

    def _on_reported(self, version: int) -> None:
        if self.trial_by is None or version != self._store.version:
            return
        if self._uplink.hooks.clock() >= self.trial_by:
            self.on_trial_timeout()
            return
        self._uplink.stop(_TRIAL_KEY)
        self.trial_by = None
        self._store.confirm()
        self._uplink.record("config.applied", version=version)

    def _end_trial(self) -> Outgoing | None:
        self.on_trial_timeout()
        return None

    def _revert(self, error: str) -> None:
        self.trial_by = None
        self._uplink.stop(_TRIAL_KEY)
        self._store.revert()
        refused = self._store.refused
        self._uplink.record("config.reverted", version=refused, applied=self._store.version, error=error)
        if refused is not None:
            self._report(refused, ConfigOutcome.REVERTED, error)

    def _report(self, version: int, outcome: ConfigOutcome, error: str | None = None) -> None:
        report = messages.ConfigReport(version=version, outcome=outcome, error=error)
        self._uplink.send(topics.CONFIG_REPORT, report)

    def _begin_request(self, *, first_in_s: float = 0.0) -> None:
        self._asked = uuid.uuid4().hex
        retry_s = self._options.retry_s
        self._uplink.repeat(_KEY, self._next_request, every_s=retry_s, first_in_s=first_in_s, slowing=True)

    def _next_request(self) -> Outgoing | None:
        if self._asked is None:
            return None
        question = messages.ConfigGet(
            request_id=self._asked, have_version=self._store.version, connection=self._connection()
        )
        return topics.CONFIG_GET, question

    def _next_refresh(self) -> Outgoing | None:
        self._begin_request(first_in_s=self._options.retry_s)
        return self._next_request()
