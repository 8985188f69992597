"""Connection profiles: only a working connection replaces a working connection."""

import json
from binascii import hexlify

from mdm import crypto, tls
from mdm.storage import dumps

_FIELDS = (
    "connection_id",
    "mqtt_host",
    "mqtt_port",
    "mqtt_tls",
    "mqtt_auth",
    "token_url",
    "ca_certificate",
    "wifi",
)
_ALL = _FIELDS + ("recovery_port",)
_NAMES = ("profile_a", "profile_b", "profile_c")
_STARTS_MAX = 6


def profile_of(package):
    """Return what a package has of the connection."""
    profile = {name: package.get(name) for name in _FIELDS}
    profile["recovery_port"] = (package.get("recovery") or {}).get("port")
    return profile


def _same(one, other):
    """Return whether two profiles are the same but for their id."""
    return dict(one, connection_id=None) == dict(other, connection_id=None)


class Profiles:
    """Three records with a profile each, and the record `connection`, which has the use of each.

    `first`, `fallback` and `trial` are names of records or None; a profile is written before the record names it.
    `turn` is the one to use, `first` or `fallback`, and `works` the one over which a question was answered last.
    `starts` counts those in a row without an answer, `refused` is the last profile that was not kept, `package` a
    mark of the last package. What worked last is never dropped: it is the first or the fall-back.
    """

    def __init__(self, device):
        self._device = device
        self._trial_by = None
        self._lost_at = device.clock.ms()
        self._silent_at = None
        self._count_at = self._lost_at + device.answer_ms
        self._record = device.store.read("connection")
        profile = profile_of(device.package)
        mark = hexlify(crypto.sha256(dumps([profile[name] for name in _ALL]).encode())).decode()[:16]
        if self._record is None:
            self._record = {"first": None, "fallback": None, "trial": None, "refused": None, "works": None}
        if self._record["trial"] is not None:
            self._refuse(self._read("trial"), "reverted", "the device restarted during the trial")
        if self._record.get("package") != mark:
            self._provision(profile, mark)
        elif self._record["starts"] >= _STARTS_MAX:
            self._take_turns()
        self._use("turn")

    def state(self):
        """Return the device's profiles as `up/config/get` has them; a question is open from now on."""
        if self._silent_at is None:
            self._silent_at = self._device.clock.ms()
        state = {
            "first": self._id("first"),
            "fallback": self._id("fallback"),
            "in_use": self.profile["connection_id"],
        }
        state["refused"] = self._record["refused"]
        return {name: value for name, value in state.items() if value}

    def on_offer(self, offer):
        """Put a profile on trial, unless it is in use, or something else is on trial: then it comes again."""
        if offer["connection_id"] == self.profile["connection_id"] or self._trial_by is not None:
            return
        if self._device.is_on_trial():
            return
        try:
            profile, name = self._opened(offer), self._free()
            self._device.store.write(name, profile)
        except (ValueError, KeyError, TypeError, AttributeError, OSError) as error:
            if self._refuse(offer, "rejected", str(error) or repr(error)):
                self._device.config.ask()
            return
        # The offer came over the profile in use, which therefore works.
        self._write(trial=name, works=self._record["turn"], starts=0)
        self._trial_by = self._device.clock.ms() + offer["trial_seconds"] * 1000
        self._use("trial")
        self._device.end("switch")

    def on_answered(self):
        """Note that the profile in use works, and keep the one on trial."""
        self._silent_at = self._count_at = None
        if self._trial_by is not None:
            self._trial_by = None
            refused = self._record["refused"]
            same = refused and refused["connection_id"] == self.profile["connection_id"]
            self._replace(self._record["trial"], works="first", trial=None, refused=None if same else refused)
            self._device.log(f"connection: keeps {self.profile['connection_id']}")
            self._device.config.ask()
        elif self._record["works"] != self._record["turn"] or self._record["starts"]:
            self._write(works=self._record["turn"], starts=0)

    def on_tick(self):
        """End a trial that took too long, count a start, and take turns while there is no way to the server."""
        now = self._device.clock.ms()
        if self._device.connected:
            self._lost_at = now
        if self._trial_by is not None:
            if now >= self._trial_by:
                self._refuse(self.profile, "reverted", "no question was answered in time")
                self._change()
        elif self._record["fallback"] is not None:
            if self._count_at is not None and now >= self._count_at:
                self._count_at = None
                self._write(starts=self._record["starts"] + 1)
            silent = self._silent_at is not None and now - self._silent_at >= self._device.silent_ms
            if silent or now - self._lost_at >= self._device.turn_ms:
                self._take_turns()
                self._change()

    def _take_turns(self):
        self._write(turn="first" if self._record["turn"] == "fallback" else "fallback", starts=0)

    def _change(self):
        """Connect with another profile, which has all its time."""
        self._lost_at, self._silent_at = self._device.clock.ms(), None
        self._use("turn")
        self._device.end("switch")

    def _provision(self, profile, mark):
        """Make the profile of a new package the first."""
        name, first = self._free(), self._read("first")
        self._device.store.write(name, profile)
        if first and _same(first, profile):  # only the id is another one
            self._write(first=name, turn="first", starts=0, package=mark)
        else:
            self._replace(name, package=mark)

    def _replace(self, name, **changes):
        """Make a record the first; what worked last is its fall-back, and what never worked is dropped."""
        worked = self._record[self._record["works"]] if self._record["works"] else None
        if worked and _same(self._device.store.read(worked), self._device.store.read(name)):
            worked = self._record["fallback"]  # only the id is another one
        works = "fallback" if worked else None
        self._write(
            **dict({"first": name, "fallback": worked, "turn": "first", "starts": 0, "works": works}, **changes)
        )

    def _opened(self, offer):
        """Return the profile in an offer; raise ValueError, KeyError or TypeError if this device cannot use it."""
        profile = offer.get("profile")
        if profile is None:
            profile = json.loads(crypto.open_jwe(offer["jwe"], self._device.key.private))
        profile = {name: profile.get(name) for name in _ALL}
        profile["connection_id"] = offer["connection_id"]
        profile["mqtt_auth"] = profile["mqtt_auth"] or "password"
        if profile["mqtt_auth"] not in ("password", "token"):
            raise ValueError("mqtt_auth: must be password or token")
        if not profile["mqtt_host"] or not 1 <= profile["mqtt_port"] <= 65535:
            raise ValueError("mqtt_host, mqtt_port: must name a broker")
        if profile["mqtt_tls"]:
            tls.context(profile["ca_certificate"])
        if profile["wifi"] and not self._device.networks:
            raise ValueError("wifi: the application of this device joins its networks itself")
        return profile

    def _refuse(self, profile, outcome, reason):
        """Note what was not kept; return whether that is new."""
        refused = {"connection_id": profile["connection_id"], "outcome": outcome, "reason": reason[:200]}
        self._trial_by = None
        if (refused, None) == (self._record["refused"], self._record["trial"]):
            return False
        self._write(trial=None, refused=refused)
        self._device.log(f"connection: {outcome} {refused['connection_id']}: {reason}", "warning")
        return True

    def _free(self):
        """Return the name of a record that no power cut brings back into use."""
        used = (self._record["first"], self._record["fallback"])
        return next(name for name in _NAMES if name not in used)

    def _id(self, name):
        profile = self._read(name)
        return profile and profile["connection_id"]

    def _read(self, name):
        name = self._record["turn"] if name == "turn" else name
        return self._device.store.read(self._record[name]) if self._record[name] else None

    def _use(self, name):
        self.profile = self._read(name)
        self.tls = tls.context(self.profile["ca_certificate"]) if self.profile["mqtt_tls"] else None

    def _write(self, **changes):
        record = dict(self._record, **changes)
        self._device.store.write("connection", record)
        self._record = record
