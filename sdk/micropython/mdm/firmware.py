"""Updates of the firmware: fetched into the other slot, started on trial, kept once the server has answered."""

from mdm.config import new_id
from mdm.flash import BLOCK_BYTES

_ASK = "firmware"
_PIECE = "piece"
_STORED_EACH = 16 * BLOCK_BYTES
_RESTARTS_MAX = 2
_BOOTS_MAX = 3
_TRIES_MAX = 2
_REFUSED_MAX = 8


class Firmware:
    """The record `firmware`, of images on trial and their outcomes, and the record `download`, of what is there.

    A trial has the image's `sha256`, the `label` of its slot, `boots`: how often it was started, `tries`: how
    often it was selected, and `error`, once it has failed. The bootloader goes back when it restarts on trial.
    """

    def __init__(self, device, flash):
        self._device = device
        self._flash = flash
        self._asked = None
        self._download = device.store.read("download")
        self._told_percent = 0
        self._verify_by = None
        self._record = device.store.read("firmware") or {"trial": None, "refused": [], "outcome": None}
        self.running = flash.sha256()
        self._on_boot(self._record["trial"])

    def facts(self):
        """Return what `up/status` has of the board."""
        return {"firmware_sha256": self.running, "slot_size_bytes": self._flash.size_bytes}

    def is_on_trial(self):
        """Return whether the running image is on trial."""
        return self._verify_by is not None

    def on_connected(self):
        """Report an outcome, ask for an image, and continue a download."""
        self._report_outcome()
        self.ask()
        if self._verify_by is None:
            self._pump()

    def on_tick(self):
        """Go back to the old image if the new one was not connected and answered in time."""
        if self._verify_by is not None and self._device.clock.ms() >= self._verify_by:
            self._roll_back(f"was not connected and answered within {self._device.verify_ms // 1000} s")

    def on_healthy(self):
        """Keep the image on trial: it can connect and is answered."""
        trial = self._record["trial"]
        if self._verify_by is None:
            return
        self._verify_by = None
        self._flash.keep()
        self._forget()  # first: after a power cut before the next line, the image is confirmed once more
        self._write(trial=None, outcome={"sha256": trial["sha256"], "stage": "confirmed"})
        self._report_outcome()
        self.ask()  # an offer during the trial was not taken

    def on_offer(self, offer):
        """Begin to fetch an image, unless there is a reason not to; return whether this is our answer."""
        answers = self._asked is not None and offer.get("request_id") == self._asked
        if answers:
            self._asked = None
            self._device.repeat(_ASK, self._ask_again, self._device.sweep_ms, self._device.sweep_ms)
        sha256 = offer.get("sha256")
        if sha256 is None or sha256 == self.running or self._verify_by is not None:
            return answers
        size_bytes = offer["size_bytes"]
        if sha256 in self._record["refused"]:
            self._report(sha256, "rolled_back", error="was rolled back before")
        elif not 0 < size_bytes <= self._flash.size_bytes:
            error = f"must have at most {self._flash.size_bytes} bytes, has {size_bytes}"
            self._report(sha256, "failed", error=error)
        else:
            if self._download is None or self._download["sha256"] != sha256:
                self._begin(sha256, size_bytes)
                self._report(sha256, "downloading", percent=0)
            self._pump()
        return answers

    def on_piece(self, sha256, offset, data):
        """Write the piece that was asked for; any other is ignored."""
        download = self._download
        if download is None or (sha256, offset, len(data)) != (
            download["sha256"],
            download["done"],
            self._length(),
        ):
            return
        self._flash.write(offset, data)
        download["done"] += len(data)
        if download["done"] % _STORED_EACH == 0 or not self._length():
            self._device.store.write("download", download)
        percent = 100 * download["done"] // download["size_bytes"]
        if percent >= self._told_percent + 10:
            self._told_percent = percent
            self._report(sha256, "downloading", percent=percent)
        self._pump()

    def on_cancelled(self, message):
        """Forget the image that is being fetched."""
        if self._download is not None and self._download["sha256"] == message["sha256"]:
            self._forget()

    def ask(self):
        """Ask for an image until there is an answer."""
        self._asked = new_id()
        self._device.repeat(_ASK, self._question, self._device.retry_ms, slowing=True)

    def _on_boot(self, trial):
        if trial is None or trial["label"] != self._flash.label:
            # A confirmed image runs. If it is back by `select`, the bootloader takes this for a trial.
            self._flash.keep()
            if trial is not None and (trial["boots"] or trial["tries"] >= _TRIES_MAX):
                self._give_up(trial)
            # Else the power may have failed before the image was selected: it is selected once more.
            return
        self.running = trial["sha256"]
        if "error" in trial:
            # It was to go, and is back: this bootloader does not go back by itself.
            self._flash.select()
            self._device.end("reboot")
            return
        error = "was started 3 times without success" if trial["boots"] >= _BOOTS_MAX else self._device.self_test()
        if error is not None:
            self._roll_back(error)
            return
        self._verify_by = self._device.clock.ms() + self._device.verify_ms
        self._write(trial=dict(trial, boots=trial["boots"] + 1))

    def _roll_back(self, error):
        """Restart without keeping the image: the bootloader goes back to the old one, which is still valid."""
        self._verify_by = None
        trial = self._record["trial"]
        self._write(trial=dict(trial, boots=trial["boots"] + 1, error=error[:200]))
        self._device.end("reboot")

    def _give_up(self, trial):
        outcome = {"sha256": trial["sha256"], "stage": "rolled_back"}
        outcome["error"] = trial.get("error", "the bootloader went back to the old image")
        self._forget()
        refused = self._record["refused"][1 - _REFUSED_MAX :] + [trial["sha256"]]
        self._write(trial=None, refused=refused, outcome=outcome)

    def _begin(self, sha256, size_bytes, restarts=0):
        self._download = {"sha256": sha256, "size_bytes": size_bytes, "done": 0, "restarts": restarts}
        self._told_percent = 0
        # Before the first byte: no record must speak for bytes of another image.
        self._device.store.write("download", self._download)

    def _length(self):
        return min(BLOCK_BYTES, self._download["size_bytes"] - self._download["done"])

    def _pump(self):
        if self._download is None:
            return
        if self._length():
            self._device.repeat(_PIECE, self._request, self._device.retry_ms)
        else:
            self._finish(self._download)

    def _request(self):
        download = self._download
        if download is None or not self._length():
            return None
        return "firmware/chunk", {
            "sha256": download["sha256"],
            "offset": download["done"],
            "length": self._length(),
        }

    def _finish(self, download):
        sha256 = download["sha256"]
        self._report(sha256, "verifying")
        if not self._flash.is_whole(sha256, download["size_bytes"]):
            if download["restarts"] < _RESTARTS_MAX:
                self._begin(sha256, download["size_bytes"], download["restarts"] + 1)
                self._pump()
                return
            error = "the bytes do not have the sha256 that was offered"
        else:
            error = self._flash.fault()
        if error is not None:
            self._forget()
            self._report(sha256, "failed", error=error)
            return
        known = self._record["trial"] or {"sha256": None}
        tries = known["tries"] + 1 if known["sha256"] == sha256 else 1
        trial = {"sha256": sha256, "label": self._flash.other_label, "boots": 0, "tries": tries}
        self._write(trial=trial, outcome=None)
        self._flash.select()
        self._report(sha256, "rebooting")
        self._device.end("reboot")

    def _forget(self):
        self._device.stop_repeating(_PIECE)
        self._download = None
        self._device.store.write("download", None)

    def _report_outcome(self):
        outcome = self._record["outcome"]
        if outcome is not None:
            self._device.send("firmware/report", outcome, then=lambda: self._on_told(outcome))

    def _on_told(self, outcome):
        if self._record["outcome"] == outcome:
            self._write(outcome=None)

    def _report(self, sha256, stage, percent=None, error=None):
        report = {"sha256": sha256, "stage": stage}
        if percent is not None:
            report["percent"] = percent
        if error is not None:
            report["error"] = error
        self._device.send("firmware/report", report)

    def _question(self):
        if self._asked is None:
            return None
        question = {"request_id": self._asked, "version": self._device.version, "sha256": self.running}
        question["slot_size_bytes"] = self._flash.size_bytes
        if self._device.chip:
            question["chip"] = self._device.chip
        return "firmware/check", question

    def _ask_again(self):
        self.ask()  # this repeats another source from now on

    def _write(self, **changes):
        record = dict(self._record, **changes)
        self._device.store.write("firmware", record)
        self._record = record
