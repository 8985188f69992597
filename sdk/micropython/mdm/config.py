"""The configuration of the device in the record `config`: asked for, applied, tried, reported."""

import os
from binascii import hexlify

_ASK = "config"


def new_id():
    """Return an id for a request."""
    return hexlify(os.urandom(8)).decode()


class Configuration:
    """The applied `version` and `document`.

    The record also has `good`, the version to go back to while one is on trial, and `refused`, the version that
    failed its trial, until another one is applied.
    """

    def __init__(self, device):
        self._device = device
        self._asked = None
        self._trial_by = None
        self._take(device.store.read("config") or {"version": None, "document": {}, "good": None, "refused": None})
        if self._on_trial:
            self._revert("the device restarted during the trial")

    def on_connected(self):
        """Report what a trial has come to, and ask for the configuration."""
        if self._trial_by is not None:
            version = self.version
            self._report(version, "applied", then=lambda: self._on_reported(version))
        elif self._refused is not None:
            self._report(self._refused, "reverted")
        self.ask()

    def on_tick(self):
        """Go back to the last good version if the one on trial was not reported in time."""
        if self._trial_by is not None and self._device.clock.ms() >= self._trial_by:
            self._revert("was not connected and reported in time")

    def is_on_trial(self):
        """Return whether the applied version is on trial."""
        return self._on_trial

    def ask(self):
        """Ask for the configuration until it is answered."""
        self._asked = new_id()
        self._device.repeat(_ASK, self._question, self._device.retry_ms, slowing=True)

    def on_config(self, config):
        """Apply or reject a version, and report it; return whether this answers our own question."""
        version, document = config["version"], config.get("document")
        answers = self._asked is not None and config.get("request_id") == self._asked
        if answers:
            self._asked = None
            self._device.repeat(_ASK, self._ask_again, self._device.sweep_ms, self._device.sweep_ms)
        late = self.version is not None and version < self.version and not answers
        if version == self.version:
            if self._trial_by is None:
                self._report(version, "applied")
        elif version == self._refused:
            self._report(version, "reverted")
        elif document is not None and not late:
            self._apply(version, document, config.get("trial_seconds"))
            if self._asked is not None:
                self.ask()  # the answer in progress may be older than this push
        return answers

    def _apply(self, version, document, trial_seconds):
        error = self._device.configure(document)
        record = {"version": version, "document": document, "good": None, "refused": None}
        if trial_seconds is not None:
            kept = {"version": self.version, "document": self.document}
            record["good"] = self._device.store.read("config")["good"] if self._on_trial else kept
        if error is None:
            try:
                self._device.store.write("config", record)
            except OSError as failure:
                error = f"there is no room for it: {failure}"
                self._device.configure(self.document)
        if error is not None:
            self._report(version, "rejected", error)
            return
        self._take(record)
        self._trial_by = None
        if trial_seconds is None:
            self._report(version, "applied")
        else:
            self._trial_by = self._device.clock.ms() + trial_seconds * 1000
            self._device.end("switch")

    def _on_reported(self, version):
        """Keep the version on trial: the broker has the report."""
        self.on_tick()
        if self._trial_by is not None and version == self.version:
            self._trial_by = None
            self._write({"version": version, "document": self.document, "good": None, "refused": None})

    def _revert(self, error):
        self._trial_by = None
        good, refused = self._device.store.read("config")["good"], self.version
        self._write({"version": good["version"], "document": good["document"], "good": None, "refused": refused})
        self._device.configure(self.document)
        self._report(refused, "reverted", error)

    def _write(self, record):
        self._device.store.write("config", record)
        self._take(record)

    def _take(self, record):
        self.version, self.document = record["version"], record["document"]
        self._on_trial, self._refused = record["good"] is not None, record["refused"]

    def _report(self, version, outcome, error=None, then=None):
        report = {"version": version, "outcome": outcome}
        if error:
            report["error"] = error[:200]
        self._device.send("config/report", report, then=then)

    def _question(self):
        if self._asked is None:
            return None
        question = {"request_id": self._asked, "connection": self._device.profiles.state()}
        if self.version is not None:
            question["have_version"] = self.version
        return "config/get", question

    def _ask_again(self):
        self.ask()  # this repeats another source from now on
