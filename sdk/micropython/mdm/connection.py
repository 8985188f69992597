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
_NAMES = ("profile_a", "profile_b", "profile_c")


def profile_of(package):
    """Return what a package has of the connection."""
    profile = {name: package.get(name) for name in _FIELDS}
    profile["recovery_port"] = (package.get("recovery") or {}).get("port")
    return profile


class Profiles:
    """Three records with a profile each, and the record `connection`, which has the use of each.

    `first`, `fallback` and `trial` are names of records or None, `in_use` is `first` or `fallback`. A profile is
    written before the record names it. `refused` is the last one that was not kept, `package` a mark of the last
    package.
    """

    def __init__(self, device):
        self._device, package = device, device.package
        self._trial_by = None
        self._lost_at = device.clock.ms()
        self._record = device.store.read("connection")
        mark = hexlify(crypto.sha256(dumps([profile_of(package)[name] for name in _FIELDS]).encode())).decode()[
            :16
        ]
        if self._record is None or self._record["package"] != mark:
            self._begin(profile_of(package), mark)
        elif self._record["trial"] is not None:
            self._refuse(self._read("trial"), "reverted", "the device restarted during the trial")
        self._use("in_use")

    def state(self):
        """Return the device's profiles as `up/config/get` has them."""
        state = {
            "first": self._id("first"),
            "fallback": self._id("fallback"),
            "in_use": self.profile["connection_id"],
        }
        state["refused"] = self._record["refused"]
        return {name: value for name, value in state.items() if value}

    def on_offer(self, offer):
        """Put a profile on trial, unless it is the one in use or on trial already."""
        if offer["connection_id"] == self.profile["connection_id"]:
            return
        try:
            profile = self._opened(offer)
        except (ValueError, KeyError, TypeError, OSError) as error:
            self._refuse(offer, "rejected", str(error))
            self._device.config.ask()
            return
        name = self._free()
        try:
            self._device.store.write(name, profile)
        except OSError as error:
            self._refuse(offer, "rejected", f"there is no room for it: {error}")
            self._device.config.ask()
            return
        self._write(trial=name)
        self._trial_by = self._device.clock.ms() + offer["trial_seconds"] * 1000
        self._use("trial")
        self._device.end("switch")

    def on_answered(self):
        """Keep the profile on trial: a question was answered over its connection."""
        if self._trial_by is None:
            return
        self._trial_by = None
        worked = self._record[self._record["in_use"]]
        self._write(first=self._record["trial"], fallback=worked, trial=None, in_use="first", refused=None)
        self._device.log(f"connection: keeps {self.profile['connection_id']}")
        self._device.config.ask()

    def on_tick(self):
        """End a trial that took too long, and take turns while there is no connection."""
        now = self._device.clock.ms()
        if self._device.connected:
            self._lost_at = now
        if self._trial_by is not None and now >= self._trial_by:
            self._refuse(self.profile, "reverted", "was not connected and answered in time")
            self._use("in_use")
            self._device.end("switch")
        elif self._trial_by is None and now - self._lost_at >= self._device.turn_ms:
            self._lost_at = now
            other = "first" if self._record["in_use"] == "fallback" else "fallback"
            if self._record[other] is not None:
                self._write(in_use=other)
                self._use("in_use")

    def _begin(self, profile, mark):
        """Make the profile of a new package the first, and the former first the fall-back."""
        former = self._record["first"] if self._record else None
        name = self._free()
        self._device.store.write(name, profile)
        self._record = {"refused": None}
        self._write(first=name, fallback=former, trial=None, in_use="first", package=mark)

    def _opened(self, offer):
        """Return the profile in an offer; raise ValueError, KeyError or TypeError if this device cannot use it."""
        profile = offer.get("profile")
        if profile is None:
            profile = json.loads(crypto.open_jwe(offer["jwe"], self._device.key.private))
        profile = {name: profile.get(name) for name in _FIELDS + ("recovery_port",)}
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
        refused = {"connection_id": profile["connection_id"], "outcome": outcome, "reason": reason[:200]}
        self._trial_by = None
        self._write(trial=None, refused=refused)
        self._device.log(f"connection: {outcome} {refused['connection_id']}: {reason}", "warning")

    def _free(self):
        """Return the name of a record that no power cut brings back into use."""
        used = (self._record["first"], self._record["fallback"]) if self._record else ()
        return next(name for name in _NAMES if name not in used)

    def _id(self, name):
        profile = self._read(name)
        return profile and profile["connection_id"]

    def _read(self, name):
        name = self._record["in_use"] if name == "in_use" else name
        return self._device.store.read(self._record[name]) if self._record[name] else None

    def _use(self, name):
        self.profile = self._read(name)
        self.tls = tls.context(self.profile["ca_certificate"]) if self.profile["mqtt_tls"] else None

    def _write(self, **changes):
        record = dict(self._record, **changes)
        self._device.store.write("connection", record)
        self._record = record
